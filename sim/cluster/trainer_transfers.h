#pragma once
// Our trainer's transfers within one layer, one by one, as one rank hands them over. sim/plan/trainer_traffic.h sums up
// the same over a step.

#include <vector>

#include "sim/cluster/layer_seconds.h"
#include "sim/config/job.h"

namespace mmoe {

struct LayerTransfer {
  const char* group;  // as group_named has it
  Collective collective;
  double bytes;  // of the rank's own input
  TimeCause cause;
};

struct LayerTransfers {
  std::vector<LayerTransfer> forward, backward;  // what recomputation repeats is in backward
};

// Whether layers send as our trainer's do: the job's split of tokens is one that it runs, and its experts' dispatcher.
bool sends_as_trainer(const Job& job);

LayerTransfers dense_layer_transfers(const Job& job);
// `rows_factor`: rows that the rank's experts get over those of balanced routing; its own rows go out as they are,
// those of others come back.
LayerTransfers moe_layer_transfers(const Job& job, double k, double rows_factor);

}  // namespace mmoe
