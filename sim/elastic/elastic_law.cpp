#include "sim/elastic/elastic_law.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "sim/config/enum_names.h"
#include "sim/elastic/budget_cut.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// The draw's law from its integer weights, over their largest so that none overflows.
DiscreteLaw law_of(int k_min, const std::vector<ScaledCount>& weights) {
  const ScaledCount largest = *std::max_element(weights.begin(), weights.end());
  std::vector<double> probabilities;
  for (const ScaledCount weight : weights) probabilities.push_back(ratio(weight, largest));
  return DiscreteLaw(k_min, std::move(probabilities));
}

// The weights that the condition left, as the law on the least to the largest k that it allows.
DiscreteLaw allowed_law(int k_min, const std::vector<ScaledCount>& weights) {
  const auto allowed = [](ScaledCount weight) { return !weight.is_zero(); };
  const auto begin = std::find_if(weights.begin(), weights.end(), allowed);
  const auto end = std::find_if(weights.rbegin(), weights.rend(), allowed).base();
  return law_of(k_min + static_cast<int>(begin - weights.begin()), {begin, end});
}

DiscreteLaw shifted(const DiscreteLaw& law, int64_t by) { return DiscreteLaw(law.min() + by, law.probabilities()); }

// Of size copies of one k.
DiscreteLaw times(const DiscreteLaw& law, int64_t size) {
  std::vector<double> weights(static_cast<size_t>((law.max() - law.min()) * size) + 1);
  for (int64_t v = law.min(); v <= law.max(); ++v) {
    weights[static_cast<size_t>((v - law.min()) * size)] = law.probability(v);
  }
  return DiscreteLaw(law.min() * size, std::move(weights));
}

}  // namespace

ElasticLaw::ElasticLaw(const ElasticConfig& config, int num_moe_layers, int micro_batches_in_flight)
    : granularity_(config.granularity), num_layers_(num_moe_layers), k_min_(config.k_min), k_max_(config.k_max) {
  MMOE_CHECK(num_moe_layers >= 1) << num_moe_layers << " MoE layers";
  if (config.budget && cuts_draws(config.budget->method)) {
    throw ConfigError("elastic.budget.method = " + name_of(config.budget->method) +
                      " has no law that predictions know; leave it out to condition the draws, or train with it");
  }
  const std::vector<ScaledCount> weights = draw_weights(config);
  const std::vector<GroupBound> bounds = group_bounds(config, num_moe_layers, micro_batches_in_flight);
  int largest_group = 0;
  for (const GroupBound& bound : bounds) {
    group_sizes_.push_back(bound.size());
    largest_group = std::max(largest_group, bound.size());
  }
  if (one_k_for_all_layers()) {
    counts_ = std::make_shared<SumCounts>(weights, 1);
    const std::vector<ScaledCount> allowed = shared_draw_weights(weights, bounds);
    shared_draw_ = allowed_law(k_min_, allowed);
    const DiscreteLaw free = free_draw();
    double probability = 0;
    for (int64_t k = shared_draw_.min(); k <= shared_draw_.max(); ++k) probability += free.probability(k);
    const bool all = std::none_of(allowed.begin(), allowed.end(), [](ScaledCount w) { return w.is_zero(); });
    shared_log_probability_ = all ? 0 : std::log(probability);
    return;
  }
  counts_ = std::make_shared<SumCounts>(weights, largest_group);
  for (const GroupBound& bound : bounds) groups_.emplace_back(counts_, bound);
}

ElasticLaw ElasticLaw::without_budget() const {
  ElasticLaw law = *this;
  law.shared_draw_ = free_draw();
  law.shared_log_probability_ = 0;
  law.groups_.clear();
  for (const GroupLaw& group : groups_) {
    const int64_t largest = counts_->largest_sum(group.size());
    law.groups_.emplace_back(counts_, GroupBound{group.layers(), largest, SumBound::kAtMost});
  }
  return law;
}

ElasticLaw ElasticLaw::of_group(int group) const {
  const auto g = static_cast<size_t>(group);
  ElasticLaw law = *this;
  law.num_layers_ = static_cast<int>(group_sizes_[g]);
  law.group_sizes_ = {group_sizes_[g]};
  if (one_k_for_all_layers()) return law;
  std::vector<int> layers(static_cast<size_t>(law.num_layers_));
  std::iota(layers.begin(), layers.end(), 0);
  law.groups_ = {GroupLaw(counts_, GroupBound{std::move(layers), groups_[g].bound(), groups_[g].kind()})};
  return law;
}

DiscreteLaw ElasticLaw::free_draw() const { return law_of(k_min_, counts_->weights()); }

DiscreteLaw ElasticLaw::sum_of_group(int group) const {
  const auto g = static_cast<size_t>(group);
  if (one_k_for_all_layers()) return times(shared_draw_, group_sizes_[g]);
  return shifted(groups_[g].sum(), group_sizes_[g] * k_min_);
}

DiscreteLaw ElasticLaw::sum() const {
  if (one_k_for_all_layers()) return times(shared_draw_, num_layers_);
  DiscreteLaw law;
  for (int g = 0; g < num_groups(); ++g) law = law.convolve(sum_of_group(g));
  return law;
}

std::vector<DiscreteLaw> ElasticLaw::marginals() const {
  std::vector<DiscreteLaw> laws;
  if (one_k_for_all_layers()) {
    std::vector<double> weights;
    for (int k = k_min_; k <= k_max_; ++k) weights.push_back(shared_draw_.probability(k));
    laws.assign(static_cast<size_t>(num_layers_), DiscreteLaw(k_min_, std::move(weights)));
  }
  if (!groups_.empty()) laws.resize(static_cast<size_t>(num_layers_));
  for (const GroupLaw& group : groups_) {
    const DiscreteLaw law(k_min_, group.marginal());
    for (const int layer : group.layers()) laws[static_cast<size_t>(layer)] = law;
  }
  return laws;
}

double ElasticLaw::log_probability() const {
  double sum = shared_log_probability_;
  for (const GroupLaw& group : groups_) sum += group.log_probability();
  return sum;
}

double ElasticLaw::kl_divergence() const { return -log_probability() + 0.0; }

std::vector<double> ElasticLaw::kl_divergence_by_layer() const {
  const DiscreteLaw free = free_draw();
  std::vector<double> result;
  for (const DiscreteLaw& law : marginals()) result.push_back(law.divergence(free));
  return result;
}

double ElasticLaw::entropy() const {
  if (one_k_for_all_layers()) return shared_draw_.entropy();
  // -E[log P(k)] of the free law, less what the condition divides by.
  const DiscreteLaw free = free_draw();
  double sum = log_probability();
  for (const DiscreteLaw& law : marginals()) {
    for (int64_t k = law.min(); k <= law.max(); ++k) {
      if (law.probability(k) > 0) sum -= law.probability(k) * std::log(free.probability(k));
    }
  }
  return std::max(0.0, sum);
}

double ElasticLaw::expected_flops_fraction(const std::vector<double>& weights, double constant) const {
  MMOE_CHECK(static_cast<int>(weights.size()) == num_layers_) << weights.size() << " weights";
  const double free_mean = free_draw().mean();
  const std::vector<DiscreteLaw> laws = marginals();
  double here = constant, free = constant;
  for (size_t l = 0; l < weights.size(); ++l) {
    here += weights[l] * laws[l].mean();
    free += weights[l] * free_mean;
  }
  return here / free;
}

DiscreteLaw free_sum(const ElasticConfig& config, int64_t num_moe_layers) {
  if (num_moe_layers == 0) return DiscreteLaw::certain(0);
  ElasticConfig free = config;
  free.budget.reset();
  return ElasticLaw(free, static_cast<int>(num_moe_layers)).sum();
}

}  // namespace mmoe
