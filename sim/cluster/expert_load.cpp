#include "sim/cluster/expert_load.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

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

LoadFactor average(int64_t num_draws, const std::function<double()>& draw) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < num_draws; ++i) {
    const double value = draw();
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(num_draws);
  const double mean = sum / n;
  return {mean, std::sqrt(std::max(0.0, squares / n - mean * mean) / n)};
}

std::vector<double> measured_shares(const Job& job) {
  const std::string& path = job.training.moe.load_file;
  const nlohmann::json json = read_json_file(path);
  std::vector<double> shares;
  for (const auto& value : json) {
    if (!value.is_number() || value.get<double>() < 0)
      throw ConfigError(path + ": must be a list of numbers of 0 or more");
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

}  // namespace

std::vector<double> zipf_shares(int64_t num_experts, double exponent) {
  std::vector<double> shares;
  for (int64_t i = 1; i <= num_experts; ++i) shares.push_back(std::pow(static_cast<double>(i), -exponent));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= sum;
  return shares;
}

LoadFactor busiest_rank(const std::vector<double>& shares, int64_t num_ranks, int64_t num_draws, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> placed = shares;
  return average(num_draws, [&] {
    std::shuffle(placed.begin(), placed.end(), random);
    return busiest_group(placed, num_ranks);
  });
}

LoadFactor busiest_rank_dirichlet(int64_t num_experts, double concentration, int64_t num_ranks, int64_t num_draws,
                                  uint64_t seed) {
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gamma(concentration, 1);
  std::vector<double> shares(static_cast<std::size_t>(num_experts));
  return average(num_draws, [&] {
    double sum = 0;
    for (double& share : shares) sum += share = gamma(random);
    for (double& share : shares) share /= sum;
    return busiest_group(shares, num_ranks);
  });
}

double expert_load_factor(const Job& job) {
  const MoeTrainingConfig& moe = job.training.moe;
  if (job.model.num_moe_layers() == 0 || moe.dispatch != DispatchKind::kDropless) return 1;
  switch (moe.load) {
    case LoadKind::kZipf:
      return busiest_rank(zipf_shares(job.model.num_experts, moe.load_parameter), job.parallelism.expert).mean;
    case LoadKind::kDirichlet:
      return busiest_rank_dirichlet(job.model.num_experts, moe.load_parameter, job.parallelism.expert).mean;
    case LoadKind::kMeasured:
      return busiest_group(measured_shares(job), job.parallelism.expert);
    default:
      return 1;
  }
}

double expert_load_factor(const Job& job, int64_t expert_rank) {
  const MoeTrainingConfig& moe = job.training.moe;
  const bool by_expert = job.model.num_moe_layers() > 0 && moe.dispatch == DispatchKind::kDropless;
  if (!by_expert || moe.load != LoadKind::kMeasured) return expert_load_factor(job);
  const std::vector<double> shares = measured_shares(job);
  const auto size = static_cast<std::ptrdiff_t>(job.model.num_experts / job.parallelism.expert);
  const auto begin = shares.begin() + expert_rank * size;
  return std::accumulate(begin, begin + size, 0.0) * static_cast<double>(job.parallelism.expert);
}

}  // namespace mmoe
