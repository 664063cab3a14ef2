#include "sim/cluster/expert_load.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "sim/cluster/routing_file.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// `choices` of k in all; experts of a group stand together in `order`.
double busiest_group(const std::vector<double>& choices, const std::vector<std::size_t>& order, int64_t num_ranks,
                     double k) {
  const std::size_t size = choices.size() / static_cast<std::size_t>(num_ranks);
  double most = 0;
  for (std::size_t begin = 0; begin + size <= choices.size(); begin += size) {
    double sum = 0;
    for (std::size_t i = begin; i < begin + size; ++i) sum += choices[order[i]];
    most = std::max(most, sum);
  }
  return most * static_cast<double>(num_ranks) / k;
}

std::vector<std::size_t> in_order(std::size_t num_experts) {
  std::vector<std::size_t> order(num_experts);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Of k; at 1 no expert's share is full.
struct KRange {
  int first = 1, last = 1;
  std::size_t size() const { return static_cast<std::size_t>(last - first + 1); }
};

// Factors of the busiest of num_ranks groups: [k - first][draw].
using Factors = std::vector<std::vector<double>>;

std::vector<std::vector<double>> choices_by_k(const std::vector<double>& shares, const KRange& range) {
  std::vector<std::vector<double>> choices;
  for (int k = range.first; k <= range.last; ++k) choices.push_back(choices_by_expert(shares, k));
  return choices;
}

void add_factors(Factors& factors, const std::vector<std::vector<double>>& choices,
                 const std::vector<std::size_t>& order, int64_t num_ranks, const KRange& range) {
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const double k = range.first + static_cast<double>(i);
    factors[i].push_back(busiest_group(choices[i], order, num_ranks, k));
  }
}

Factors zipf_factors(const std::vector<double>& shares, int64_t num_ranks, const KRange& range, int64_t num_draws,
                     uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::size_t> order = in_order(shares.size());
  const std::vector<std::vector<double>> choices = choices_by_k(shares, range);
  Factors factors(range.size());
  for (int64_t i = 0; i < num_draws; ++i) {
    std::shuffle(order.begin(), order.end(), random);
    add_factors(factors, choices, order, num_ranks, range);
  }
  return factors;
}

Factors dirichlet_factors(int64_t num_experts, double concentration, int64_t num_ranks, const KRange& range,
                          int64_t num_draws, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gamma(concentration, 1);
  std::vector<double> shares(static_cast<std::size_t>(num_experts));
  const std::vector<std::size_t> order = in_order(shares.size());
  Factors factors(range.size());
  for (int64_t i = 0; i < num_draws; ++i) {
    double sum = 0;
    for (double& share : shares) sum += share = gamma(random);
    for (double& share : shares) share /= sum;
    add_factors(factors, choices_by_k(shares, range), order, num_ranks, range);
  }
  return factors;
}

LoadFactor average(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(values.size());
  const double mean = sum / n;
  return {mean, std::sqrt(std::max(0.0, squares / n - mean * mean) / n)};
}

std::vector<double> measured_shares(const nlohmann::json& json, const Job& job) {
  const std::string& path = job.training.moe.load_file;
  std::vector<double> shares;
  for (const auto& value : json) {
    if (!value.is_number() || value.get<double>() < 0)
      throw ConfigError(path + ": must be a list of numbers of 0 or more, or a list of such lists");
    shares.push_back(value.get<double>());
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  if (static_cast<int64_t>(shares.size()) != job.model.num_experts || sum <= 0) {
    throw ConfigError(path + ": holds " + std::to_string(shares.size()) + " loads, but model.num_experts = " +
                      std::to_string(job.model.num_experts) + "; give one load an expert, not all 0");
  }
  for (double& share : shares) share /= sum;
  return shares;
}

bool is_run(const std::string& load_file) { return load_file.ends_with(".jsonl"); }

// A load of every kStepsOfALoad steps of a run's metrics.jsonl that tell of routing: the rows of all layers and steps.
// A step in which few experts are active concentrates more, but has few rows: it counts by them.
std::vector<std::vector<double>> loads_of_run(const Job& job) {
  constexpr std::size_t kStepsOfALoad = 20;
  std::vector<std::vector<double>> sums;
  const std::vector<std::vector<RoutedLayer>> steps = routed_steps(job);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (i % kStepsOfALoad == 0) sums.emplace_back(static_cast<std::size_t>(job.model.num_experts), 0.0);
    for (const RoutedLayer& layer : steps[i]) {
      for (std::size_t e = 0; e < layer.rows.size(); ++e) sums.back()[e] += layer.rows[e];
    }
  }
  // Fewer steps than a whole load's say little; one alone is better than none.
  if (sums.size() > 1 && steps.size() % kStepsOfALoad != 0) sums.pop_back();
  std::vector<std::vector<double>> rows;
  for (const std::vector<double>& sum : sums) rows.push_back(measured_shares(nlohmann::json(sum), job));
  return rows;
}

// Rows of one share an expert, one at least.
std::vector<std::vector<double>> measured_loads(const Job& job) {
  if (is_run(job.training.moe.load_file)) return loads_of_run(job);
  const nlohmann::json json = read_json_file(job.training.moe.load_file);
  if (!json.is_array() || json.empty() || !json.front().is_array()) return {measured_shares(json, job)};
  std::vector<std::vector<double>> rows;
  for (const auto& row : json) rows.push_back(measured_shares(row, job));
  return rows;
}

double highest(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

KRange range_of(const Job& job) { return {job.elastic.k_min, job.elastic.k_max}; }

Factors measured_factors(const Job& job) {
  const KRange range = range_of(job);
  Factors factors(range.size());
  for (const std::vector<double>& shares : measured_loads(job)) {
    add_factors(factors, choices_by_k(shares, range), in_order(shares.size()), job.parallelism.expert, range);
  }
  return factors;
}

Factors random_factors(const Job& job, int64_t num_draws) {
  const MoeTrainingConfig& moe = job.training.moe;
  const int64_t experts = job.model.num_experts, ranks = job.parallelism.expert;
  constexpr uint64_t kSeed = 0;
  return moe.load == LoadKind::kZipf
             ? zipf_factors(zipf_shares(experts, moe.load_parameter), ranks, range_of(job), num_draws, kSeed)
             : dirichlet_factors(experts, moe.load_parameter, ranks, range_of(job), num_draws, kSeed);
}

bool load_matters(const Job& job) {
  return job.model.num_moe_layers() > 0 && job.training.moe.dispatch == DispatchKind::kDropless;
}

}  // namespace

std::vector<double> zipf_shares(int64_t num_experts, double exponent) {
  std::vector<double> shares;
  for (int64_t i = 1; i <= num_experts; ++i) shares.push_back(std::pow(static_cast<double>(i), -exponent));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= sum;
  return shares;
}

std::vector<double> choices_by_expert(const std::vector<double>& shares, double k) {
  MMOE_CHECK(k >= 0 && k <= static_cast<double>(shares.size())) << k << " of " << shares.size();
  std::vector<double> falling = shares;
  std::sort(falling.begin(), falling.end(), std::greater<>());
  std::vector<double> rest_from(falling.size() + 1, 0.0);  // from the least share on: it may be far below the largest
  for (std::size_t i = falling.size(); i-- > 0;) rest_from[i] = rest_from[i + 1] + falling[i];
  // The first `full` experts get one choice each; the rest share what is left.
  std::size_t full = 0;
  while (full < falling.size() && (k - static_cast<double>(full)) * falling[full] > rest_from[full]) ++full;
  const double rest = rest_from[full];
  const double left = k - static_cast<double>(full), least_full = full > 0 ? falling[full - 1] : INFINITY;
  // Experts that nobody wants get what the others have no room for.
  const auto wanted = static_cast<std::size_t>(
      std::find_if(falling.begin(), falling.end(), [](double share) { return share <= 0; }) - falling.begin());
  std::vector<double> choices;
  for (const double share : shares) {
    if (share >= least_full) {
      choices.push_back(1);
    } else if (full < wanted) {
      choices.push_back(std::min(1.0, left * share / rest));
    } else {
      choices.push_back(left / static_cast<double>(shares.size() - wanted));
    }
  }
  return choices;
}

double LoadByK::at(double k) const {
  const double place = std::clamp(k - first_k_, 0.0, static_cast<double>(factors_.size() - 1));
  const auto below = std::min(static_cast<std::size_t>(place), factors_.size() - 1);
  const auto above = std::min(below + 1, factors_.size() - 1);
  return factors_[below] + (place - static_cast<double>(below)) * (factors_[above] - factors_[below]);
}

double LoadByK::highest() const { return mmoe::highest(factors_); }

LoadFactor busiest_rank(const std::vector<double>& shares, int64_t num_ranks, int64_t num_draws, uint64_t seed) {
  return average(zipf_factors(shares, num_ranks, {}, num_draws, seed).front());
}

LoadFactor busiest_rank_dirichlet(int64_t num_experts, double concentration, int64_t num_ranks, int64_t num_draws,
                                  uint64_t seed) {
  return average(dirichlet_factors(num_experts, concentration, num_ranks, {}, num_draws, seed).front());
}

LoadByK expert_load_factor(const Job& job) {
  constexpr int64_t kDraws = 1000;
  if (!load_matters(job) || job.training.moe.load == LoadKind::kBalanced) return 1;
  std::vector<double> means;
  const bool measured = job.training.moe.load == LoadKind::kMeasured;
  for (const std::vector<double>& factors : measured ? measured_factors(job) : random_factors(job, kDraws)) {
    means.push_back(average(factors).mean);
  }
  return {job.elastic.k_min, std::move(means)};
}

double expert_load_factor(const Job& job, int64_t expert_rank) {
  if (!load_matters(job) || job.training.moe.load != LoadKind::kMeasured) {
    return expert_load_factor(job).at(job.elastic.k_min);
  }
  const auto size = static_cast<std::ptrdiff_t>(job.model.num_experts / job.parallelism.expert);
  std::vector<double> factors;
  for (const std::vector<double>& shares : measured_loads(job)) {
    const auto begin = shares.begin() + expert_rank * size;
    factors.push_back(std::accumulate(begin, begin + size, 0.0) * static_cast<double>(job.parallelism.expert));
  }
  return highest(factors);
}

LoadByK expert_load_bound(const Job& job, double confidence) {
  constexpr int64_t kDraws = 20000;
  const MoeTrainingConfig& moe = job.training.moe;
  if (!load_matters(job) || moe.load == LoadKind::kBalanced) return 1;
  std::vector<double> bounds;
  if (moe.load == LoadKind::kMeasured) {
    for (const std::vector<double>& factors : measured_factors(job)) bounds.push_back(highest(factors));
    return {job.elastic.k_min, std::move(bounds)};
  }
  const Factors factors = random_factors(job, kDraws);
  Factors rising = factors;
  for (std::vector<double>& of_k : rising) std::sort(of_k.begin(), of_k.end());
  // The least place in each k's order such that enough draws pass the value there at no k.
  const auto enough = [&](std::size_t place) {
    std::ptrdiff_t within = 0;
    for (std::size_t draw = 0; draw < static_cast<std::size_t>(kDraws); ++draw) {
      bool all = true;
      for (std::size_t i = 0; i < factors.size() && all; ++i) all = factors[i][draw] <= rising[i][place];
      within += all;
    }
    return static_cast<double>(within) >= std::ceil(confidence * kDraws);
  };
  std::size_t low = 0, high = static_cast<std::size_t>(kDraws) - 1;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (enough(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  for (const std::vector<double>& of_k : rising) bounds.push_back(of_k[high]);
  return {job.elastic.k_min, std::move(bounds)};
}

bool expert_load_is_random(const Job& job) {
  const LoadKind load = job.training.moe.load;
  return load_matters(job) && job.parallelism.expert > 1 && (load == LoadKind::kZipf || load == LoadKind::kDirichlet);
}

bool load_is_by_k(const Job& job) {
  const MoeTrainingConfig& moe = job.training.moe;
  return load_matters(job) && job.parallelism.expert > 1 && moe.load == LoadKind::kMeasured && is_run(moe.load_file);
}

}  // namespace mmoe
