#pragma once
// The groups of ranks that one rank of a job belongs to, connected.

#include <chrono>
#include <functional>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "sim/config/job.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/trainer_layout.h"
#include "train/parallel/communicator.h"
#include "train/parallel/launch_environment.h"

namespace mmoe {

struct ProcessGroups {
  int64_t rank = 0, world_size = 1;
  RankGroups layout;  // sim's numbering, so plans and runs mean the same ranks
  Communicator world, tensor, context, data, expert, expert_tensor,
      expert_data;              // data: of all replicas' context ranks
  Communicator whole_stage;     // with tensor parallelism; else `data` has the same ranks
  Communicator tensor_context;  // with both; else one of them has the same ranks
  // Neighbours of the pipeline, a group for each direction, and apart for the way from the last rank to the first: two
  // ranks never send to each other in one group, where NCCL would wait for both.
  Communicator forward, forward_around, backward, backward_around;

  // Those of more than one rank.
  std::vector<const Communicator*> connected() const;

  // The ranks that hold the same weights of this group: holders_of, connected.
  const Communicator& holders(ParameterGroup group) const;

  // The ranks that hold equal parts of the tokens of one micro-batch, in the order of the ranks.
  const Communicator& token_group() const;

  bool is_alone() const { return world_size == 1; }
  int64_t data_index() const { return position_in(layout.data, rank); }
  int64_t stage() const { return position_in(layout.pipeline, rank); }
  bool is_first_stage() const { return stage() == 0; }
  bool is_last_stage() const { return stage() + 1 == layout.pipeline.size; }
};

// Of one process that holds the whole model.
const ProcessGroups& no_groups();

// The job without its layout: what one process trains or evaluates.
Job on_one_device(Job job);

// The key-value store through which the ranks of a world find each other. Throws ConfigError when it cannot be reached
// within `timeout`.
c10::intrusive_ptr<c10d::Store> connect_store(const LaunchEnvironment& launch, std::chrono::seconds timeout);

// Makes the backend of one group of more than one rank, of which this one has `position`; `first_rank` is the rank at
// position 0.
using MakeBackend =
    std::function<c10::intrusive_ptr<c10d::Backend>(const char* name, int64_t first_rank, int position, int size)>;

// All groups of `rank` in job.hardware.num_devices ranks.
ProcessGroups make_groups(const Job& job, int64_t rank, const MakeBackend& make_backend);

// Connects all groups of `rank` in job.hardware.num_devices ranks; every rank calls it, at about the same time. On CPUs
// over the network interface that leads to MASTER_ADDR, or that GLOO_SOCKET_IFNAME names. A collective that takes
// longer than `timeout` fails. Throws ConfigError where ranks do not come.
ProcessGroups connect_groups(const Job& job, int64_t rank, c10::Device device,
                             const c10::intrusive_ptr<c10d::Store>& store, std::chrono::seconds timeout);

}  // namespace mmoe
