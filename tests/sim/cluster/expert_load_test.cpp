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
  EXPECT_EQ(expert_load_factor(example_cluster_job()).at(1), 1);
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
  EXPECT_NEAR(expert_load_factor(job).at(1), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 0), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 3), 4.0 / 22 * 4, 1e-12);
  std::ofstream(path) << "[1,2]";
  EXPECT_THROW(expert_load_factor(job), ConfigError);
}

TEST(ExpertLoad, SeveralMeasuredLoadsCountTheirHighestInMemory) {
  const std::string path = testing::TempDir() + "/loads.json";
  std::ofstream(path) << "[[4,4,1,1,1,1,1,1,1,1,1,1,1,1,1,1], [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,5]]";
  const Job job = example_cluster_job({{"training.moe.load", path}});
  EXPECT_NEAR(expert_load_factor(job).at(1), (10.0 / 22 * 4 + 8.0 / 20 * 4) / 2, 1e-12);  // time: their mean
  EXPECT_NEAR(expert_load_factor(job, 0), 10.0 / 22 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 1), 4.0 / 20 * 4, 1e-12);
  EXPECT_NEAR(expert_load_factor(job, 3), 8.0 / 20 * 4, 1e-12);
  EXPECT_NEAR(expert_load_bound(job, 0.5).at(1), 10.0 / 22 * 4, 1e-12);
  EXPECT_FALSE(expert_load_is_random(job));
  std::ofstream(path) << "[[1,2]]";
  EXPECT_THROW(expert_load_bound(job, 0.5), ConfigError);
}

// One expert of 16 with nearly all rows makes its rank's factor 4 in every place.
TEST(ExpertLoad, BoundsAreQuantilesOverPlaces) {
  const Job one =
      example_cluster_job({{"training.moe.load", "zipf:40"}, {"elastic.k_min", "1"}, {"elastic.k_max", "1"}});
  EXPECT_TRUE(expert_load_is_random(one));
  EXPECT_NEAR(expert_load_bound(one, 0.99).at(1), 4, 1e-9);
  // Dirichlet of concentration 1 on two experts and two ranks: 2 max(u, 1 - u), of quantiles 1 + p.
  const Job two = example_cluster_job({{"training.moe.load", R"({"dirichlet": 1})"},
                                       {"model.num_experts", "2"},
                                       {"parallelism.expert", "2"},
                                       {"elastic.k_min", "1"},
                                       {"elastic.k_max", "1"}});
  for (const double p : {0.5, 0.9, 0.99}) {
    // Five standard errors of a quantile of 20,000 draws of a density of 1.
    EXPECT_NEAR(expert_load_bound(two, p).at(1), 1 + p, 5 * std::sqrt(p * (1 - p) / 20000));
  }
  EXPECT_EQ(expert_load_bound(example_cluster_job(), 0.99).highest(), 1);
}

// Steps without routing are left out; twenty steps are a load, with the rows of all their layers; a rest is left out.
TEST(ExpertLoad, ARunsMetricsAreLoads) {
  const std::string path = testing::TempDir() + "/metrics.jsonl";
  const auto job_with = [&](const std::string& lines) {
    std::ofstream(path) << lines;
    return example_cluster_job(
        {{"training.moe.load", path}, {"model.num_experts", "4"}, {"elastic.k_min", "1"}, {"elastic.k_max", "1"}});
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
  EXPECT_NEAR(expert_load_bound(job, 0.99).at(1), 4.0 / 10 * 4, 1e-12);
  for (const char* bad :
       {"", "{\"step\": 1}\n", "step 1\n", R"({"moe": [3]})", R"({"moe": [{"tokens_per_expert": {"max": 3}}]})",
        R"({"moe": [{"tokens_per_expert": {"by_expert": [1, 2]}}]})"}) {
    EXPECT_THROW(expert_load_factor(job_with(bad)), ConfigError) << bad;
  }
}

// Shares that fit are kept; an expert whose share passes one choice a token gets one, and the others the rest.
TEST(ChoicesByExpert, NoExpertGetsMoreThanOne) {
  const std::vector<double> shares = {0.1, 0.4, 0.3, 0.2};
  for (const double k : {0.5, 1.0, 2.0, 2.4}) {
    const std::vector<double> choices = choices_by_expert(shares, k);
    for (size_t e = 0; e < 4; ++e) EXPECT_NEAR(choices[e], k * shares[e], 1e-15) << k;
  }
  // By hand: at 3 two experts are full in turn, since of the two choices left 2 * 0.3 / 0.6 = 1 are the next one's.
  const std::vector<double> three = choices_by_expert(shares, 3);
  EXPECT_NEAR(three[1], 1, 1e-15);
  EXPECT_NEAR(three[2], 1, 1e-15);
  EXPECT_NEAR(three[3], 2.0 / 3, 1e-15);
  EXPECT_NEAR(three[0], 1.0 / 3, 1e-15);
  EXPECT_EQ(choices_by_expert(shares, 4), std::vector<double>(4, 1));
  EXPECT_EQ(choices_by_expert({0, 1, 0}, 2), (std::vector<double>{0.5, 1, 0.5}));
  for (const double exponent : {0.5, 1.2, 40.0}) {
    for (int k = 1; k <= 16; ++k) {
      double sum = 0;
      for (const double choice : choices_by_expert(zipf_shares(16, exponent), k)) {
        EXPECT_LE(choice, 1);
        sum += choice;
      }
      EXPECT_NEAR(sum, k, 1e-12) << exponent;
    }
  }
}

// A rank with E / R experts gets at most min(k, E / R) of k choices, and all of them at k = E.
TEST(ExpertLoad, FactorsFallWithK) {
  for (const char* load : {"zipf:1.5", R"({"dirichlet": 0.2})", "zipf:40"}) {
    const Job job = example_cluster_job({{"training.moe.load", load},
                                         {"elastic.sampling", "uniform"},
                                         {"elastic.k_min", "1"},
                                         {"elastic.k_max", "16"}});
    const double ranks = static_cast<double>(job.parallelism.expert);
    for (const LoadByK& factor : {expert_load_factor(job), expert_load_bound(job, 0.99)}) {
      for (int k = 1; k <= 16; ++k) {
        EXPECT_LE(factor.at(k), std::min<double>(k, 16 / ranks) * ranks / k + 1e-9) << load << k;
      }
      EXPECT_LT(factor.at(8), 0.99 * factor.at(1)) << load;
      EXPECT_NEAR(factor.at(16), 1, 1e-9) << load;
      EXPECT_NEAR(factor.at(2.5), (factor.at(2) + factor.at(3)) / 2, 1e-12);
      EXPECT_GE(factor.highest(), factor.at(1));
    }
  }
}

TEST(ExpertLoad, BoundsRiseWithTheConfidence) {
  const Job job = example_cluster_job({{"training.moe.load", R"({"dirichlet": 0.3})"},
                                       {"elastic.sampling", "uniform"},
                                       {"elastic.k_min", "1"},
                                       {"elastic.k_max", "12"}});
  const LoadByK low = expert_load_bound(job, 0.5), high = expert_load_bound(job, 0.99);
  for (int k = 1; k <= 12; ++k) EXPECT_LE(low.at(k), high.at(k));
  EXPECT_LT(low.at(1), high.at(1));
}

}  // namespace
}  // namespace mmoe
