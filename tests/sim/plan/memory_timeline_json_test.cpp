#include "sim/plan/memory_timeline_json.h"

#include <gtest/gtest.h>

#include "sim/cluster/memory_model.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(MemoryTimelineJson, HasBothDrawsWhereKIsDrawn) {
  const Job job =
      example_cluster_job({{"elastic.k_min", "1"}, {"elastic.k_max", "6"}, {"elastic.sampling", "uniform"}});
  const nlohmann::json json = memory_timeline_json(job, framework_of(job));
  ASSERT_EQ(json["draws"].size(), 2U);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const nlohmann::json &most = json["draws"]["k_max"][rank], &drawn = json["draws"]["drawn"][rank];
    EXPECT_LT(drawn["peak"]["bytes"].get<double>(), most["peak"]["bytes"].get<double>());
    double highest = 0;
    for (const nlohmann::json& s : most["samples"]) {
      highest = std::max(highest, s[1].get<double>() + s[2].get<double>() + s[3].get<double>());
    }
    for (const auto& [cause, bytes] : most["held_bytes"].items()) highest += bytes.get<double>();
    EXPECT_DOUBLE_EQ(highest, most["peak"]["bytes"].get<double>()) << "causes add up to the peak";
  }
  EXPECT_EQ(memory_timeline_json(example_cluster_job(), framework_of(job))["draws"].size(), 1U);
}

// A window that has room for k_min alone leaves no other draw.
TEST(MemoryTimelineJson, DrawsKeepAWindowBudget) {
  const Overrides elastic = {{"elastic.k_min", "1"}, {"elastic.k_max", "6"}, {"elastic.sampling", "uniform"}};
  const auto drawn_peak = [&](const char* budget) {
    Overrides overrides = elastic;
    overrides.emplace_back("elastic.budget", budget);
    const Job job = example_cluster_job(overrides);
    return memory_timeline_json(job, framework_of(job))["draws"]["drawn"][0]["peak"]["bytes"].get<double>();
  };
  // Ranks of 2 and 4 MoE layers hold 2 and 1 micro-batches.
  const Job job = example_cluster_job(elastic);
  const double least = cluster_memory(job, framework_of(job), 1)[0].peak_allocated.value;
  EXPECT_NEAR(drawn_peak(R"({"kind": "window", "sum_k": [4, 4]})"), least, 1e-9 * least);
  EXPECT_GT(drawn_peak(R"({"kind": "window", "sum_k": [8, 14]})"), least);
}

}  // namespace
}  // namespace mmoe
