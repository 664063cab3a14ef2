#pragma once
// What cutting free draws down to a budget does to their law, beside conditioning: the two ways one would try first.

#include <cstdint>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/discrete_law.h"

namespace mmoe {

// Whether draws are changed to keep the bound (clip, rescale), so that their law is no conditioned one.
constexpr bool cuts_draws(BudgetMethod method) {
  return method == BudgetMethod::kClip || method == BudgetMethod::kRescale;
}

// `extra`: k_l - k_min of a group's layers; afterwards their sum is at most `bound` >= 0, and none has risen.
// Clip goes from the first layer on and leaves what is left of the bound: late layers starve.
// Rescale turns x into floor(x bound / sum) where the sum is above the bound: the sum falls short of it by up to one a
// layer.
void cut_draw(BudgetMethod method, int64_t bound, std::vector<int>& extra);

// The exact law of one micro-batch's cut draws.
struct CutLaw {
  std::vector<DiscreteLaw> marginals;  // of k_l, by MoE layer, each on k_min..k_max
  std::vector<DiscreteLaw> sums;       // of the sum of k_l, by group
};

// Budget of kind at_most, method clip or rescale, granularity `layer` (MMOE_CHECKs). Of one group with n layers and
// choices c: O(n^2 c^2) for clip, O(n^4 c^4) for rescale (the joint law of a sum before and after): seconds at 56
// layers.
CutLaw cut_law(const ElasticConfig& config, int num_moe_layers);

}  // namespace mmoe
