#pragma once
// What the ranks of our trainer hand to each collective in one step.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

struct CollectiveTraffic {
  int64_t calls = 0;
  int64_t bytes = 0;  // of each call's own input (of a receive: of its output)
  bool operator==(const CollectiveTraffic&) const = default;
};

// By group ("world", "tensor", "context", "tensor_context", "data", "stage", "expert", "expert_tensor", "expert_data",
// "forward", "forward_around", "backward", "backward_around") and collective ("all_reduce", "reduce_scatter",
// "all_gather", "all_to_all", "send", "receive").
using TrafficByGroup = std::map<std::string, std::map<std::string, CollectiveTraffic>>;

// Numbers (fp64) of the report that all ranks add up at a step's end: by global micro-batch its loss and of each MoE
// layer two losses and a count, then the gradient's norm, the stop flag and every rank's peak.
int64_t step_report_size(const Job& job);

// Sums over all ranks of the job; `k` of [global micro-batch][MoE layer]. Exact whatever the routing: where tokens go
// decides which rank sends how many rows back, but not how many all ranks send. The job must be one that our trainer
// runs.
TrafficByGroup trainer_traffic(const Job& job, const std::vector<std::vector<int>>& k);

// Of one rank alone; what comes to its experts, and so what it sends back, is as training.moe.load says (stated_rows of
// what each rank of an expert group sends).
TrafficByGroup trainer_rank_traffic(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k);

}  // namespace mmoe
