#include "sim/elastic/budget_cut.h"

#include <algorithm>
#include <numeric>

#include "sim/elastic/scaled_count.h"
#include "sim/elastic/sum_counts.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

using Probabilities = std::vector<double>;

// Laws of a group's layers and of its sum, in k_l - k_min.
struct GroupCut {
  std::vector<Probabilities> marginals;
  Probabilities sum;
};

// The layers in order are a Markov chain over what the bound has left.
GroupCut clip_law(const Probabilities& free, int num_layers, int64_t bound) {
  const int64_t largest = static_cast<int64_t>(free.size()) - 1;
  GroupCut cut;
  Probabilities left(static_cast<size_t>(bound) + 1);
  left.back() = 1;
  for (int layer = 0; layer < num_layers; ++layer) {
    Probabilities marginal(free.size()), next(left.size());
    for (int64_t room = 0; room <= bound; ++room) {
      for (int64_t x = 0; x <= largest; ++x) {
        const double probability = left[static_cast<size_t>(room)] * free[static_cast<size_t>(x)];
        const int64_t kept = std::min(x, room);
        marginal[static_cast<size_t>(kept)] += probability;
        next[static_cast<size_t>(room - kept)] += probability;
      }
    }
    cut.marginals.push_back(std::move(marginal));
    left = std::move(next);
  }
  cut.sum.assign(left.rbegin(), left.rend());
  return cut;
}

// The layers are exchangeable, so one marginal serves for all.
GroupCut rescale_law(const Probabilities& free, int num_layers, int64_t bound) {
  const int64_t largest = static_cast<int64_t>(free.size()) - 1;
  const DiscreteLaw one(0, free), sum = one.sum_of(num_layers), rest = one.sum_of(num_layers - 1);
  GroupCut cut;
  cut.sum.assign(static_cast<size_t>(bound) + 1, 0);
  Probabilities marginal(free.size());
  for (int64_t total = 0; total <= sum.max(); ++total) {
    const auto kept = [&](int64_t x) { return total <= bound ? x : x * bound / total; };
    for (int64_t x = 0; x <= largest; ++x) {
      marginal[static_cast<size_t>(kept(x))] += one.probability(x) * rest.probability(total - x);
    }
    if (total <= bound) {
      cut.sum[static_cast<size_t>(total)] += sum.probability(total);
      continue;
    }
    // at[t][c]: probability that the layers so far sum to t before and c after the cut by this total.
    std::vector<Probabilities> at(static_cast<size_t>(total) + 1, Probabilities(static_cast<size_t>(bound) + 1));
    at[0][0] = 1;
    for (int layer = 1; layer <= num_layers; ++layer) {
      std::vector<Probabilities> next(at.size(), Probabilities(static_cast<size_t>(bound) + 1));
      for (int64_t before = 0; before <= std::min(total, (layer - 1) * largest); ++before) {
        for (int64_t after = 0; after <= bound; ++after) {
          const double here = at[static_cast<size_t>(before)][static_cast<size_t>(after)];
          if (here == 0) continue;
          for (int64_t x = 0; x <= std::min(largest, total - before); ++x) {
            next[static_cast<size_t>(before + x)][static_cast<size_t>(after + kept(x))] +=
                here * free[static_cast<size_t>(x)];
          }
        }
      }
      at = std::move(next);
    }
    for (size_t after = 0; after < cut.sum.size(); ++after) cut.sum[after] += at.back()[after];
  }
  cut.marginals.assign(static_cast<size_t>(num_layers), marginal);
  return cut;
}

}  // namespace

void cut_draw(BudgetMethod method, int64_t bound, std::vector<int>& extra) {
  MMOE_CHECK(cuts_draws(method) && bound >= 0) << "bound " << bound;
  if (method == BudgetMethod::kClip) {
    for (int& x : extra) {
      x = static_cast<int>(std::min<int64_t>(x, bound));
      bound -= x;
    }
    return;
  }
  const int64_t sum = std::accumulate(extra.begin(), extra.end(), int64_t{0});
  if (sum <= bound) return;
  for (int& x : extra) x = static_cast<int>(x * bound / sum);
}

CutLaw cut_law(const ElasticConfig& config, int num_moe_layers) {
  MMOE_CHECK(config.budget && cuts_draws(config.budget->method)) << "no budget that cuts";
  MMOE_CHECK(config.granularity == Granularity::kLayer) << "one k for all layers";
  const std::vector<ScaledCount> weights = draw_weights(config);
  const ScaledCount largest = *std::max_element(weights.begin(), weights.end());
  Probabilities relative;
  for (const ScaledCount weight : weights) relative.push_back(ratio(weight, largest));
  const Probabilities free = DiscreteLaw(0, std::move(relative)).probabilities();
  CutLaw law;
  law.marginals.resize(static_cast<size_t>(num_moe_layers));
  for (const GroupBound& group : group_bounds(config, num_moe_layers, 1)) {
    const GroupCut cut = config.budget->method == BudgetMethod::kClip ? clip_law(free, group.size(), group.sum)
                                                                      : rescale_law(free, group.size(), group.sum);
    for (size_t i = 0; i < cut.marginals.size(); ++i) {
      law.marginals[static_cast<size_t>(group.layers[i])] = DiscreteLaw(config.k_min, cut.marginals[i]);
    }
    law.sums.emplace_back(int64_t{group.size()} * config.k_min, cut.sum);
  }
  return law;
}

}  // namespace mmoe
