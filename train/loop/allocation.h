#pragma once
// k per layer for a compute budget: sensitivities and search on one split, the verdict on another.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/data/batches.h"
#include "train/loop/allocation_cost.h"
#include "train/loop/paired_difference.h"
#include "train/loop/sensitivity.h"
#include "train/model/transformer.h"

namespace mmoe {

// What bounds the allocation.
struct AllocationTarget {
  enum class Kind {
    kMeanK,            // cost at most that of the uniform mix of this mean k
    kMaxLossIncrease,  // least cost at a loss at most this many nats per token above uniform k_max, on the search split
    kCostFraction,     // cost at most this fraction of uniform k_max's
  };
  Kind kind = Kind::kMeanK;
  double value = 0;
};

struct AllocationOptions {
  AllocationTarget target;
  int native_k = 1;         // what the model runs with when nobody chooses
  bool front = false;       // also the allocations for all other budgets
  int64_t max_windows = 0;  // of each split; 0: all
  int64_t batch = 1;        // sequences evaluated at once
  double test_windows_per_document = 1;
  std::string where;  // names the test split in messages
  // Called after each evaluation; `total` is an upper bound.
  std::function<void(const std::string& phase, int done, int total)> progress;
};

enum class AllocationVerdict { kBetter, kAsGood, kWorse };

// Losses are mean nats per token.
struct Allocation {
  std::vector<int> k_per_layer, uniform_k_per_layer;
  double budget = 0;                      // in the cost's unit; the allocation's own cost for kMaxLossIncrease
  std::optional<double> loss_limit;       // on the search split, for kMaxLossIncrease
  Sensitivities sensitivities;            // search split
  double predicted_loss = 0;              // search split: base and sensitivities summed
  double uniform_predicted_loss = 0;      // the same of uniform
  double search_loss = 0;                 // search split, measured
  Evaluation verified, uniform, native;   // test split
  PairedDifference difference;            // test split: allocation minus uniform
  PairedDifference difference_to_native;  // test split: allocation minus native
  // The test split's resolution; where the search chose uniform k itself, that of comparing uniform k with the
  // runner-up of the search. None where no other allocation exists.
  std::optional<double> smallest_resolvable;
  std::vector<int> runner_up_k_per_layer;  // empty unless it was needed
  AllocationVerdict verdict = AllocationVerdict::kAsGood;
  KnapsackFront front;  // predicted; losses above the base, costs above the fixed cost
  int search_evaluations = 0;
  int64_t search_windows = 0, seq_len = 0;
};

// Chooses on `search` and verifies on `test` once. The choice depends on nothing in `test`.
// Throws ConfigError, with the least that is possible, for a target that no allocation meets.
Allocation allocate(Transformer& transformer, const EvaluationWindows& search, const EvaluationWindows& test,
                    const AllocationCost& costs, const AllocationOptions& options);

// better: the whole interval of (allocation minus uniform) is below zero; worse: above; else as good.
AllocationVerdict verdict_of(const PairedDifference& difference);

}  // namespace mmoe
