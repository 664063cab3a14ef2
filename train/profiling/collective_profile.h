#pragma once
// Time of each collective that a run on several devices used, at the sizes that it used.

#include <c10/core/Device.h>

#include "profiles/store/profile.h"
#include "sim/config/job.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

// What a step waits for a transfer is no measure of the links: hidden transfers cost no wait, and a rank that comes
// early waits for the late ones. So every kind of collective of every group is run again, alone, for each class of
// sizes that the run has handed to it (Communicator::sizes) at the class's mean size over all ranks, as often as any
// profile's operations. Before each call all ranks meet in a sum of one number; groups of one name run at once, as they
// do in a step. A call takes as long as it takes the last of its group to come, from its own begin to its end: when it
// begins, all the others are there. Of sends it is the receiver whose time counts, and the slowest hop of the pipeline.
// Of several groups the slowest counts. Buffers pass 64 MiB nowhere: what is larger is measured at that size.
//
// Takes about nine times what a step spends on communication at most, plus as many sums of one number. Every rank of
// the run calls it, after the same step; the records are there on rank 0 alone.
Profile profile_collectives(const Job& job, const ProcessGroups& groups, c10::Device device);

}  // namespace mmoe
