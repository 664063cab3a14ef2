#pragma once
// Experts that are split over ranks: each (token, expert) pair travels to the ranks of its expert and back, by
// all-to-all of uneven sizes. No pair is dropped, none is padded. Where ranks hold parts of the same experts
// (expert-tensor parallelism) a pair goes to one of them, they gather the rows of all, and their parts' results are
// summed where the pair came in, as in Megatron-Core's all-to-all dispatcher.

#include "sim/memory/layer_memory.h"
#include "train/ops/experts.h"
#include "train/parallel/communicator.h"

namespace mmoe {

// Rank r of `expert` holds experts [r E / ranks, (r + 1) E / ranks), rank r of `expert_tensor` of each of these part r
// of the expert hidden size. A group of one rank splits nothing.
struct ExpertGroups {
  const Communicator* expert = nullptr;
  const Communicator* expert_tensor = nullptr;
  bool split() const { return expert->size() * expert_tensor->size() > 1; }
};

struct SplitExpertsResult {
  at::Tensor out_TD;
  RoutedPairs routed;  // what came to this rank's experts; whole numbers
};

// residual_TD + sum over a token's experts, as run_experts; `weights` are this rank's parts of its experts. Every rank
// of the groups calls it with its own tokens and its own number of slots. Keeps the rows that its experts work on,
// their order, and what run_experts keeps of them.
SplitExpertsResult run_split_experts(const at::Tensor& residual_TD, const Routing& routing,
                                     const ExpertWeights& weights, const ExpertGroups& groups, Place place,
                                     ExpertSaving saving = ExpertSaving::kLean);

}  // namespace mmoe
