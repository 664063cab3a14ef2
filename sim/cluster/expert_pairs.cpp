#include "sim/cluster/expert_pairs.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "sim/cluster/routing_file.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Weight of straightness beside the steps: enough to settle what they leave open, with no effect on what they tell.
constexpr double kStraightness = 1e-9;

PairsByK same_for_all(const Job& job, const LoadByK& load) {
  PairsByK pairs;
  for (int64_t k = 0; k <= job.model.num_experts; ++k) {
    pairs.push_back(load.at(static_cast<double>(k)) * static_cast<double>(k) /
                    static_cast<double>(job.parallelism.expert));
  }
  return pairs;
}

std::vector<int> whole(const std::vector<double>& k, const std::string& path) {
  std::vector<int> result;
  for (const double value : k) {
    if (value < 1 || value != std::floor(value)) {
      throw ConfigError(
          path + ": k_per_layer is no draw of k (elastic.sampling = top_p has none); measure a run that draws k");
    }
    result.push_back(static_cast<int>(value));
  }
  if (result.empty()) throw ConfigError(path + ": a step with routing has no k_per_layer; `mmoe train` writes both");
  return result;
}

}  // namespace

PairsByK pairs_by_k(const std::vector<RankPairs>& steps, int64_t num_experts, int64_t experts_of_rank) {
  // Unknown at 1 .. most; 0 is 0, and beyond `most` a straight line leads to num_experts.
  int most = 1;
  for (const RankPairs& step : steps) {
    for (const int k : step.k) most = std::max(most, k);
  }
  MMOE_CHECK(most <= num_experts) << most << " of " << num_experts;
  Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(most, most);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(most);
  for (const RankPairs& step : steps) {
    Eigen::VectorXd draws = Eigen::VectorXd::Zero(most);
    for (const int k : step.k) draws[k - 1] += 1;
    normal += draws * draws.transpose();
    right += draws * step.pairs;
  }
  const double weight = kStraightness * normal.trace();
  for (int k = 1; k < most; ++k) {
    Eigen::VectorXd bend = Eigen::VectorXd::Zero(most);
    if (k > 1) bend[k - 2] = 1;
    bend[k - 1] = -2;
    bend[k] = 1;
    normal += weight * bend * bend.transpose();
  }
  const Eigen::VectorXd found = normal.ldlt().solve(right);
  PairsByK pairs{0};
  const auto last = static_cast<double>(experts_of_rank);
  for (int64_t k = 1; k <= num_experts; ++k) {
    const double beyond =
        num_experts > most ? static_cast<double>(k - most) / static_cast<double>(num_experts - most) : 0;
    const double value = k <= most ? found[k - 1] : found[most - 1] + (last - found[most - 1]) * beyond;
    pairs.push_back(std::clamp(value, 0.0, std::min(static_cast<double>(k), last)));
  }
  return pairs;
}

ExpertPairs::ExpertPairs(const Job& job, const LoadByK& load)
    : num_expert_ranks_(job.parallelism.expert),
      ranks_(1, std::vector(static_cast<std::size_t>(job.model.num_moe_layers()), same_for_all(job, load))) {}

ExpertPairs::ExpertPairs(const Job& job) : num_expert_ranks_(job.parallelism.expert) {
  MMOE_CHECK(load_is_by_k(job)) << "a load of one share for every k";
  const auto layers = static_cast<std::size_t>(job.model.num_moe_layers());
  const std::string& path = job.training.moe.load_file;
  const int64_t experts = job.model.num_experts / num_expert_ranks_;
  std::vector<std::vector<std::vector<RankPairs>>> seen(  // [rank][layer][step]
      static_cast<std::size_t>(num_expert_ranks_), std::vector<std::vector<RankPairs>>(layers));
  for (const std::vector<RoutedLayer>& step : routed_steps(job)) {
    if (step.size() != layers) {
      throw ConfigError(path + ": tells of " + std::to_string(step.size()) + " MoE layers, but the job has " +
                        std::to_string(layers) + "; measure the load with the same model");
    }
    for (std::size_t l = 0; l < layers; ++l) {
      const std::vector<int> k = whole(step[l].k, path);
      const double all = std::accumulate(step[l].rows.begin(), step[l].rows.end(), 0.0);
      const double tokens = all / std::accumulate(k.begin(), k.end(), 0.0);  // of a micro-batch
      for (int64_t rank = 0; rank < num_expert_ranks_ && all > 0; ++rank) {
        const auto begin = step[l].rows.begin() + rank * experts;
        const double rows = std::accumulate(begin, begin + experts, 0.0);
        seen[static_cast<std::size_t>(rank)][l].push_back({k, rows / tokens});
      }
    }
  }
  for (const auto& rank : seen) {
    auto& by_layer = ranks_.emplace_back();
    for (const auto& steps : rank) by_layer.push_back(pairs_by_k(steps, job.model.num_experts, experts));
  }
}

double ExpertPairs::at(int64_t rank, int64_t layer, int k) const {
  const auto& layers = ranks_[ranks_.size() == 1 ? 0 : static_cast<std::size_t>(rank)];
  return layers[static_cast<std::size_t>(layer)][static_cast<std::size_t>(k)];
}

double ExpertPairs::highest_factor(int k) const {
  double highest = 0;
  for (const auto& rank : ranks_) {
    double pairs = 0;
    for (const PairsByK& layer : rank) pairs += layer[static_cast<std::size_t>(k)];
    highest = std::max(highest, pairs / static_cast<double>(rank.size()) * static_cast<double>(num_expert_ranks_) / k);
  }
  return highest;
}

}  // namespace mmoe
