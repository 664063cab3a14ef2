#include "sim/cluster/expert_load.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace mmoe
