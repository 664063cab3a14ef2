#include "sim/cluster/expert_pairs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

// Each expert's probability to be among k choices drawn one after another without replacement in proportion to
// `weights` (Plackett and Luce), over all orders.
std::vector<double> chosen(const std::vector<double>& weights, int k) {
  std::vector<double> probability(weights.size(), 0.0);
  std::vector<bool> taken(weights.size(), false);
  const std::function<void(int, double, double)> choose = [&](int left, double so_far, double rest) {
    if (left == 0) {
      for (std::size_t e = 0; e < weights.size(); ++e) probability[e] += taken[e] ? so_far : 0;
      return;
    }
    for (std::size_t e = 0; e < weights.size(); ++e) {
      if (taken[e]) continue;
      taken[e] = true;
      choose(left - 1, so_far * weights[e] / rest, rest - weights[e]);
      taken[e] = false;
    }
  };
  double all = 0;
  for (const double weight : weights) all += weight;
  choose(k, 1, all);
  return probability;
}

double pairs_of(const std::vector<double>& weights, int k, int64_t experts_of_rank) {
  const std::vector<double> probability = chosen(weights, k);
  double sum = 0;
  for (int64_t e = 0; e < experts_of_rank; ++e) sum += probability[static_cast<std::size_t>(e)];
  return sum;
}

const std::vector<double> kWeights = {8, 4, 2, 1, 1, 0.5};

// Steps whose micro-batches have different k tell of each k apart. What stays open weighs 1e-9 of what is told.
TEST(PairsByK, AreThoseOfTheRoutingWhereReplicasDrawOnTheirOwn) {
  std::vector<RankPairs> steps;
  for (const std::vector<int>& k : {std::vector<int>{1, 1}, {1, 4}, {2, 4}, {2, 3}, {3, 5}, {6, 5}, {5, 5}, {4, 1}}) {
    RankPairs step{k, 0};
    for (const int one : k) step.pairs += pairs_of(kWeights, one, 2);
    steps.push_back(step);
  }
  const PairsByK pairs = pairs_by_k(steps, 6, 2);
  ASSERT_EQ(pairs.size(), 7);
  EXPECT_EQ(pairs[0], 0);
  for (int k = 1; k <= 6; ++k) EXPECT_NEAR(pairs[static_cast<std::size_t>(k)], pairs_of(kWeights, k, 2), 1e-6) << k;
  EXPECT_NEAR(pairs[6], 2, 1e-6);
}

TEST(PairsByK, AreMeansOfTheStepsWithOneK) {
  const PairsByK pairs = pairs_by_k({{{1}, 0.5}, {{1}, 0.7}, {{2}, 1.1}, {{1}, 0.6}}, 4, 2);
  EXPECT_NEAR(pairs[1], 0.6, 1e-8);
  EXPECT_NEAR(pairs[2], 1.1, 1e-8);
}

TEST(PairsByK, AreStraightBetweenWhatIsKnown) {
  const PairsByK pairs = pairs_by_k({{{1}, 0.8}, {{4}, 1.4}}, 8, 3);
  // Between 1 and 4 the bends are shared: least squares of second differences is no straight line where it may bend at
  // the ends too, but it rises all the way; from 4 to 8 it is the line to 3.
  for (std::size_t k = 1; k < 4; ++k) EXPECT_LT(pairs[k], pairs[k + 1]);
  for (std::size_t k = 5; k <= 8; ++k) EXPECT_NEAR(pairs[k], 1.4 + 1.6 * (static_cast<double>(k) - 4) / 4, 1e-8);
  // No more than all choices, and than all experts of the rank.
  EXPECT_EQ(pairs_by_k({{{1}, 1.5}, {{2}, 2.5}}, 4, 2)[1], 1);
  EXPECT_EQ(pairs_by_k({{{1}, 1.5}, {{2}, 2.5}}, 4, 2)[2], 2);
}

Job job_with(const std::string& metrics, const std::string& ranks = "2") {
  const std::string path = testing::TempDir() + "/expert_pairs.jsonl";
  std::ofstream(path) << metrics;
  return example_cluster_job({{"training.moe.load", path},
                              {"model.num_experts", "6"},
                              {"model.num_layers", "2"},
                              {"model.num_dense_layers", "0"},
                              {"parallelism.expert", ranks},
                              {"parallelism.pipeline", "1"},
                              {"elastic.k_min", "1"},
                              {"elastic.k_max", "3"},
                              {"elastic.sampling", "uniform"}});
}

// One step: 1,000 tokens a micro-batch, weights kWeights in the first layer and in reverse in the second.
std::string step_of(const std::vector<std::vector<int>>& k) {
  nlohmann::json line = {{"k_per_layer", k}};
  for (std::size_t layer = 0; layer < 2; ++layer) {
    std::vector<double> weights = kWeights, rows(6, 0.0);
    if (layer == 1) std::reverse(weights.begin(), weights.end());
    for (const std::vector<int>& micro_batch : k) {
      const std::vector<double> probability = chosen(weights, micro_batch[layer]);
      for (std::size_t e = 0; e < 6; ++e) rows[e] += 1000 * probability[e];
    }
    line["moe"].push_back({{"tokens_per_expert", {{"by_expert", rows}}}});
  }
  return line.dump() + "\n";
}

TEST(ExpertPairs, ComeByRankLayerAndKFromARun) {
  const Job job =
      job_with("{\"step\": 1}\n" + step_of({{1, 2}, {2, 1}}) + step_of({{2, 2}, {3, 3}}) + step_of({{1, 1}, {1, 1}}));
  const ExpertPairs pairs(job);
  ASSERT_EQ(pairs.num_ranks(), 2);
  std::vector<double> reversed(kWeights.rbegin(), kWeights.rend());
  for (int k = 1; k <= 3; ++k) {
    const double first = pairs_of(kWeights, k, 3), second = pairs_of(reversed, k, 3);
    EXPECT_NEAR(pairs.at(0, 0, k), first, 1e-6) << k;
    EXPECT_NEAR(pairs.at(1, 0, k), k - first, 1e-6) << k;
    EXPECT_NEAR(pairs.at(0, 1, k), second, 1e-6) << k;
    // Each rank is the busiest of one layer, so that both get as much in the mean.
    EXPECT_NEAR(pairs.highest_factor(k), 1, 1e-6) << k;
  }
}

TEST(ExpertPairs, OfOtherLoadsAreTheSameShareAtEveryK) {
  const ExpertPairs one(example_cluster_job({{"parallelism.expert", "4"}}), 1.5);
  EXPECT_EQ(one.num_ranks(), 1);
  EXPECT_DOUBLE_EQ(one.at(0, 0, 2), 0.75);
  EXPECT_DOUBLE_EQ(one.at(3, 0, 2), 0.75);  // stands for all
  EXPECT_DOUBLE_EQ(one.highest_factor(1), 1.5);
  EXPECT_DOUBLE_EQ(one.highest_factor(6), 1.5);
}

TEST(ExpertPairs, RefuseRunsThatDoNotTellOfTheJobsRouting) {
  const std::string rows = R"({"tokens_per_expert": {"by_expert": [1, 1, 1, 1, 1, 1]}})";
  for (const std::string& bad : {
           "{\"k_per_layer\": [[1]], \"moe\": [" + rows + "]}\n",                     // one layer of two
           "{\"moe\": [" + rows + ", " + rows + "]}\n",                               // no draws
           "{\"k_per_layer\": [[1, 1.5]], \"moe\": [" + rows + ", " + rows + "]}\n",  // top_p
           "{\"k_per_layer\": [[1]], \"moe\": [" + rows + ", " + rows + "]}\n",       // draws of one layer
       }) {
    const Job job = job_with(bad);
    EXPECT_THROW(ExpertPairs{job}, ConfigError) << bad;
  }
}

}  // namespace
}  // namespace mmoe
