#pragma once
// Experts that are split over ranks: each (token, expert) pair travels to the rank of its expert and back, by
// all-to-all of uneven sizes. No pair is dropped, none is padded.

#include "train/ops/experts.h"
#include "train/parallel/communicator.h"

namespace mmoe {

// residual_TD + sum over a token's experts, as run_experts; `weights` are those of this rank's experts, E / ranks of
// them: rank r of `group` holds experts [r E / ranks, (r + 1) E / ranks). Every rank of the group calls it with its own
// tokens and its own number of slots. Keeps the rows that came in, their order, and what run_experts keeps of them.
at::Tensor run_split_experts(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights,
                             const Communicator& group, Place place, ExpertSaving saving = ExpertSaving::kLean);

}  // namespace mmoe
