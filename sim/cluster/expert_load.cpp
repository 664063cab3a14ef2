#include "sim/cluster/expert_load.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "sim/cluster/routing_file.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

double busiest_group(const std::vector<double>& shares, int64_t num_ranks) {
  const std::size_t size = shares.size() / static_cast<std::size_t>(num_ranks);
  double most = 0;
  for (std::size_t begin = 0; begin + size <= shares.size(); begin += size) {
    most = std::max(most, std::accumulate(shares.begin() + static_cast<std::ptrdiff_t>(begin),
                                          shares.begin() + static_cast<std::ptrdiff_t>(begin + size), 0.0));
  }
  return most * static_cast<double>(num_ranks);
}

// `num_draws` factors of the busiest of num_ranks groups.
std::vector<double> zipf_factors(const std::vector<double>& shares, int64_t num_ranks, int64_t num_draws,
                                 uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> placed = shares, factors;
  for (int64_t i = 0; i < num_draws; ++i) {
    std::shuffle(placed.begin(), placed.end(), random);
    factors.push_back(busiest_group(placed, num_ranks));
  }
  return factors;
}

std::vector<double> dirichlet_factors(int64_t num_experts, double concentration, int64_t num_ranks, int64_t num_draws,
                                      uint64_t seed) {
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gamma(concentration, 1);
  std::vector<double> shares(static_cast<std::size_t>(num_experts)), factors;
  for (int64_t i = 0; i < num_draws; ++i) {
    double sum = 0;
    for (double& share : shares) sum += share = gamma(random);
    for (double& share : shares) share /= sum;
    factors.push_back(busiest_group(shares, num_ranks));
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

std::vector<double> measured_factors(const Job& job) {
  std::vector<double> factors;
  for (const auto& shares : measured_loads(job)) factors.push_back(busiest_group(shares, job.parallelism.expert));
  return factors;
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

LoadFactor busiest_rank(const std::vector<double>& shares, int64_t num_ranks, int64_t num_draws, uint64_t seed) {
  return average(zipf_factors(shares, num_ranks, num_draws, seed));
}

LoadFactor busiest_rank_dirichlet(int64_t num_experts, double concentration, int64_t num_ranks, int64_t num_draws,
                                  uint64_t seed) {
  return average(dirichlet_factors(num_experts, concentration, num_ranks, num_draws, seed));
}

double expert_load_factor(const Job& job) {
  const MoeTrainingConfig& moe = job.training.moe;
  if (!load_matters(job)) return 1;
  switch (moe.load) {
    case LoadKind::kZipf:
      return busiest_rank(zipf_shares(job.model.num_experts, moe.load_parameter), job.parallelism.expert).mean;
    case LoadKind::kDirichlet:
      return busiest_rank_dirichlet(job.model.num_experts, moe.load_parameter, job.parallelism.expert).mean;
    case LoadKind::kMeasured:
      return average(measured_factors(job)).mean;
    default:
      return 1;
  }
}

double expert_load_factor(const Job& job, int64_t expert_rank) {
  if (!load_matters(job) || job.training.moe.load != LoadKind::kMeasured) return expert_load_factor(job);
  const auto size = static_cast<std::ptrdiff_t>(job.model.num_experts / job.parallelism.expert);
  std::vector<double> factors;
  for (const std::vector<double>& shares : measured_loads(job)) {
    const auto begin = shares.begin() + expert_rank * size;
    factors.push_back(std::accumulate(begin, begin + size, 0.0) * static_cast<double>(job.parallelism.expert));
  }
  return highest(factors);
}

double expert_load_bound(const Job& job, double confidence) {
  constexpr int64_t kDraws = 20000;
  constexpr uint64_t kSeed = 0;
  const MoeTrainingConfig& moe = job.training.moe;
  if (!load_matters(job) || moe.load == LoadKind::kBalanced) return 1;
  if (moe.load == LoadKind::kMeasured) return highest(measured_factors(job));
  const int64_t experts = job.model.num_experts, ranks = job.parallelism.expert;
  std::vector<double> factors = moe.load == LoadKind::kZipf
                                    ? zipf_factors(zipf_shares(experts, moe.load_parameter), ranks, kDraws, kSeed)
                                    : dirichlet_factors(experts, moe.load_parameter, ranks, kDraws, kSeed);
  const auto at = std::min<std::ptrdiff_t>(kDraws - 1, static_cast<std::ptrdiff_t>(std::ceil(confidence * kDraws)) - 1);
  std::nth_element(factors.begin(), factors.begin() + at, factors.end());
  return factors[static_cast<std::size_t>(at)];
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
