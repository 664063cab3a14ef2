#pragma once
// What the machine can do at best, measured in the plainest way, and what it is.

#include <c10/core/Device.h>

#include "profiles/store/profile.h"
#include "sim/config/job.h"

namespace mmoe {

// Rate of a large copy (bytes read and written) and of a large matrix product in the job's precision and in fp32.
MachinePeaks measure_machine_peaks(const Job& job, c10::Device device);

ProfileMachine describe_machine(const Job& job, c10::Device device);

}  // namespace mmoe
