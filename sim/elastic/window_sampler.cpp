#include "sim/elastic/window_sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/elastic/philox.h"
#include "sim/units/errors.h"

namespace mmoe {

WindowSampler::WindowSampler(const ElasticConfig& config, int num_moe_layers, std::vector<int64_t> widths)
    : num_layers_(num_moe_layers), k_min_(config.k_min), widths_(std::move(widths)) {
  MMOE_CHECK(config.budget && config.budget->kind == BudgetKind::kWindow) << "a window budget is wanted";
  MMOE_CHECK(config.granularity == Granularity::kLayer) << "layers draw on their own";
  const auto group_layers = config.budget->group_layers();
  MMOE_CHECK(widths_.size() == group_layers.size()) << widths_.size() << " widths";
  int largest = 0;
  for (size_t g = 0; g < group_layers.size(); ++g) {
    GroupBound& group = groups_.emplace_back();
    for (const int64_t layer : group_layers[g]) group.layers.push_back(static_cast<int>(layer));
    const int64_t least = widths_[g] * group.size() * k_min_;
    if (config.budget->sum_k[g] < least) {
      throw ConfigError("elastic.budget.sum_k = " + std::to_string(config.budget->sum_k[g]) + ": " +
                        std::to_string(widths_[g]) + " micro-batches in flight of " + std::to_string(group.size()) +
                        " MoE layers need at least " + std::to_string(least) + "; raise it");
    }
    group.sum = config.budget->sum_k[g] - least;
    largest = std::max(largest, group.size());
  }
  counts_ = std::make_shared<SumCounts>(draw_weights(config), largest);
}

std::vector<std::vector<int>> WindowSampler::draw_step(uint64_t seed, int64_t step, int64_t first_micro_batch,
                                                       int64_t num_micro_batches) const {
  std::vector<std::vector<int>> k(static_cast<size_t>(num_micro_batches),
                                  std::vector<int>(static_cast<size_t>(num_layers_)));
  const int num_choices = counts_->num_choices();
  std::vector<ScaledCount> weights(static_cast<size_t>(num_choices));
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<int64_t> sums;
    int64_t last = 0;  // of the last width - 1 micro-batches
    for (int64_t m = 0; m < num_micro_batches; ++m) {
      int64_t left = std::min(groups_[g].sum - last, counts_->largest_sum(groups_[g].size()));
      int64_t sum = 0;
      for (int num_left = groups_[g].size(); num_left >= 1; --num_left) {
        const int layer = groups_[g].layers[static_cast<size_t>(num_left) - 1];
        counts_->choice_weights(SumBound::kAtMost, num_left, left, weights.data());
        const int j = pick(weights.data(), num_choices,
                           draw_bits(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(first_micro_batch + m),
                                     static_cast<uint32_t>(layer)));
        k[static_cast<size_t>(m)][static_cast<size_t>(layer)] = k_min_ + j;
        left -= j;
        sum += j;
      }
      sums.push_back(sum);
      last += sum;
      if (m + 1 >= widths_[g]) last -= sums[static_cast<size_t>(m + 1 - widths_[g])];
    }
  }
  return k;
}

WindowLaw window_law(const DiscreteLaw& free, int64_t bound, int64_t width, int64_t num_micro_batches,
                     int64_t num_steps, uint64_t seed) {
  width = std::min(width, num_micro_batches);
  const int64_t room = bound - width * free.min();  // of a window's sum - its least
  MMOE_CHECK(width >= 1 && num_steps >= 2 && room >= 0) << width << ", " << num_steps << ", " << bound;
  std::vector<double> cumulative, first_moment;
  double all = 0, moment = 0;
  for (const double p : free.probabilities()) {
    moment += p * static_cast<double>(cumulative.size());
    cumulative.push_back(all += p);
    first_moment.push_back(moment);
  }
  const auto last_choice = static_cast<int64_t>(cumulative.size()) - 1;
  std::vector<double> largest_count(static_cast<size_t>(std::min(room, width * last_choice)) + 1, 0.0);
  double mean = 0, squares = 0, expected = 0;
  std::vector<int64_t> sums(static_cast<size_t>(num_micro_batches));
  for (int64_t step = 0; step < num_steps; ++step) {
    int64_t last = 0, largest = 0;
    double kl = 0;
    for (int64_t m = 0; m < num_micro_batches; ++m) {
      const int64_t allowed = std::min(room - last, last_choice);
      const double kept = cumulative[static_cast<size_t>(allowed)];
      expected += first_moment[static_cast<size_t>(allowed)] / kept;
      if (allowed < last_choice) kl -= std::log(kept / all);
      const double u = kept * uniform(draw_bits(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(m), 0));
      const auto found = std::upper_bound(cumulative.begin(), cumulative.begin() + allowed + 1, u);
      const int64_t sum = std::min<int64_t>(found - cumulative.begin(), allowed);
      sums[static_cast<size_t>(m)] = sum;
      last += sum;
      largest = std::max(largest, last);
      if (m + 1 >= width) last -= sums[static_cast<size_t>(m + 1 - width)];
    }
    largest_count[static_cast<size_t>(largest)] += 1;
    kl /= static_cast<double>(num_micro_batches);
    mean += kl;
    squares += kl * kl;
  }
  const auto n = static_cast<double>(num_steps);
  mean /= n;
  WindowLaw law;
  law.largest_window = DiscreteLaw(width * free.min(), std::move(largest_count));
  law.mean_sum = static_cast<double>(free.min()) + expected / (n * static_cast<double>(num_micro_batches));
  law.kl_divergence = mean;
  law.standard_error = std::sqrt(std::max(0.0, squares / n - mean * mean) / (n - 1));
  return law;
}

}  // namespace mmoe
