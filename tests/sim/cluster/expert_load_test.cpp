#include "sim/cluster/expert_load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(ExpertLoad, EqualSharesAreBalanced) {
  EXPECT_DOUBLE_EQ(busiest_rank(zipf_shares(16, 0), 4).mean, 1);
  EXPECT_EQ(expert_load_factor(example_cluster_job()), 1);
}

// One expert a rank: the busiest holds the most wanted one. All on one rank: nobody is busier.
TEST(ExpertLoad, ZipfAtTheEnds) {
  const std::vector<double> shares = zipf_shares(8, 1);  // 1/i over H_8 = 761/280
  EXPECT_NEAR(busiest_rank(shares, 8).mean, 8 * 280.0 / 761, 1e-9);
  EXPECT_NEAR(busiest_rank(shares, 1).mean, 1, 1e-12);
}

// Two experts on two ranks, Dirichlet of concentration 1: the larger of a uniform share and the rest is 3/4 on average.
TEST(ExpertLoad, DirichletAgainstItsClosedForm) {
  const LoadFactor factor = busiest_rank_dirichlet(2, 1, 2, 20000);
  EXPECT_NEAR(factor.mean, 1.5, 5 * factor.standard_error);
}

TEST(ExpertLoad, MoreRanksAreMoreUneven) {
  double before = 0;
  for (const int64_t ranks : {1, 2, 4, 8, 16}) {
    const double now = busiest_rank(zipf_shares(16, 1.2), ranks).mean;
    EXPECT_GT(now, before);
    before = now;
  }
}

TEST(ExpertLoad, MeasuredLoadsComeFromAFile) {
  const std::string path = testing::TempDir() + "/load.json";
  std::ofstream(path) << "[4,4,1,1,1,1,1,1,1,1,1,1,1,1,1,1]";
  const Job job = example_cluster_job({{"training.moe.load", path}});
  EXPECT_NEAR(expert_load_factor(job), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 0), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 3), 4.0 / 22 * 4, 1e-12);
  std::ofstream(path) << "[1,2]";
  EXPECT_THROW(expert_load_factor(job), ConfigError);
}

TEST(ExpertLoad, SeveralMeasuredLoadsCountTheirHighestInMemory) {
  const std::string path = testing::TempDir() + "/loads.json";
  std::ofstream(path) << "[[4,4,1,1,1,1,1,1,1,1,1,1,1,1,1,1], [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,5]]";
  const Job job = example_cluster_job({{"training.moe.load", path}});
  EXPECT_NEAR(expert_load_factor(job), (10.0 / 22 * 4 + 8.0 / 20 * 4) / 2, 1e-12);  // time: their mean
  EXPECT_NEAR(expert_load_factor(job, 0), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 1), 4.0 / 20 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 3), 8.0 / 20 * 4, 1e-12);
  EXPECT_NEAR(expert_load_bound(job, 0.5), 10.0 / 22 * 4, 1e-12);
  EXPECT_FALSE(expert_load_is_random(job));
  std::ofstream(path) << "[[1,2]]";
  EXPECT_THROW(expert_load_bound(job, 0.5), ConfigError);
}

// One expert of 16 with nearly all rows makes its rank's factor 4 in every place.
TEST(ExpertLoad, BoundsAreQuantilesOverPlaces) {
  const Job one = example_cluster_job({{"training.moe.load", "zipf:40"}});
  EXPECT_TRUE(expert_load_is_random(one));
  EXPECT_NEAR(expert_load_bound(one, 0.99), 4, 1e-9);
  // Dirichlet of concentration 1 on two experts and two ranks: 2 max(u, 1 - u), of quantiles 1 + p.
  const Job two = example_cluster_job(
      {{"training.moe.load", R"({"dirichlet": 1})"}, {"model.num_experts", "2"}, {"parallelism.expert", "2"}});
  for (const double p : {0.5, 0.9, 0.99}) {
    // Five standard errors of a quantile of 20,000 draws of a density of 1.
    EXPECT_NEAR(expert_load_bound(two, p), 1 + p, 5 * std::sqrt(p * (1 - p) / 20000));
  }
  EXPECT_EQ(expert_load_bound(example_cluster_job(), 0.99), 1);
}

// Steps without routing are left out; twenty steps are a load, with the rows of all their layers; a rest is left out.
TEST(ExpertLoad, ARunsMetricsAreLoads) {
  const std::string path = testing::TempDir() + "/metrics.jsonl";
  const auto job_with = [&](const std::string& lines) {
    std::ofstream(path) << lines;
    return example_cluster_job({{"training.moe.load", path}, {"model.num_experts", "4"}});
  };
  const auto step = [](const std::string& first, const std::string& second) {
    return R"({"moe": [{"tokens_per_expert": {"by_expert": )" + first + R"(}}, {"tokens_per_expert": {"by_expert": )" +
           second + "}}]}\n";
  };
  std::string lines = "{\"step\": 1, \"loss\": 2}\n" + step("[5, 0, 0, 0]", "[1, 2, 1, 1]");
  EXPECT_NEAR(expert_load_factor(job_with(lines), 0), 6.0 / 10 * 4, 1e-12);
  for (int i = 1; i < 20; ++i) lines += step("[1, 1, 1, 1]", "[1, 1, 1, 1]");
  for (int i = 0; i < 20; ++i) lines += step("[1, 1, 1, 3]", "[1, 1, 1, 1]");
  for (int i = 0; i < 19; ++i) lines += step("[9, 0, 0, 0]", "[9, 0, 0, 0]");
  const Job job = job_with(lines);
  EXPECT_NEAR(expert_load_factor(job, 0), (6.0 + 19 * 2) / (10 + 19 * 8) * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 3), 4.0 / 10 * 4, 1e-12);
  EXPECT_NEAR(expert_load_bound(job, 0.99), 4.0 / 10 * 4, 1e-12);
  for (const char* bad :
       {"", "{\"step\": 1}\n", "step 1\n", R"({"moe": [3]})", R"({"moe": [{"tokens_per_expert": {"max": 3}}]})",
        R"({"moe": [{"tokens_per_expert": {"by_expert": [1, 2]}}]})"}) {
    EXPECT_THROW(expert_load_factor(job_with(bad)), ConfigError) << bad;
  }
}

}  // namespace
}  // namespace mmoe
