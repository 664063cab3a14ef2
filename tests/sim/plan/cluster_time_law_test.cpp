#include "sim/plan/cluster_time_law.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

Job elastic_job(const Overrides& overrides = {}) {
  nlohmann::json json = example_cluster_json();
  json["elastic"] = {{"k_min", 1}, {"k_max", 6}};
  return parse_job(json, "job.json", "/", overrides);
}

TEST(ClusterTimeLaw, FixedKIsCertain) {
  const Job job = example_cluster_job();
  const Framework framework = framework_of(job);
  const ClusterTimeLaw law = cluster_time_law(job, framework, 1);
  EXPECT_EQ(law.standard_error, 0);
  EXPECT_EQ(law.step.mean(), cluster_step_time(job, framework, 2).step());
}

TEST(ClusterTimeLaw, UnevenDrawsCostTime) {
  const Job job = elastic_job();
  const ClusterTimeLaw law = cluster_time_law(job, framework_of(job), 1);
  EXPECT_DOUBLE_EQ(mean_k(job), 3.5);
  EXPECT_GT(law.step.mean(), law.typical.step());
  EXPECT_GT(law.straggling_seconds, 0);
  // One replica's draw for all: nobody waits for the slowest.
  const Job shared = elastic_job({{"elastic.share", "replicas"}});
  EXPECT_LT(cluster_time_law(shared, framework_of(shared), 1).step.mean(), law.step.mean());
}

// Of both stages' four layers the first three.
TEST(ClusterTimeLaw, DrawnLayersAreRecomputedAsManyAsTheJobSays) {
  const auto mean = [](const Overrides& overrides) {
    const Job job = elastic_job(overrides);
    return cluster_time_law(job, framework_of(job), 1).step.mean();
  };
  const double all = mean({{"training.recompute", "full"}});
  const double three = mean({{"training.recompute", "full"}, {"training.recompute_num_layers", "3"}});
  EXPECT_LT(three, all);
  EXPECT_GT(three, mean({{"training.recompute", "none"}}));
  EXPECT_DOUBLE_EQ(mean({{"training.recompute", "full"}, {"training.recompute_num_layers", "4"}}), all);
}

}  // namespace
}  // namespace mmoe
