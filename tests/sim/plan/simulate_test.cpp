#include "sim/plan/simulate.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"
#include "tests/sim/memory/memory_testing.h"

namespace mmoe {
namespace {

Plan plan_of(const std::string& changes) {
  const Job job = small_memory_job(changes);
  return simulate(job, default_calibration(job.hardware.spec));
}

TEST(Simulate, CausesOfAStageSumToItsPeak) {
  for (const char* changes :
       {"{}", R"({"elastic": {"budget": {"kind": "at_most", "sum_k": 7}}})", R"({"training": {"recompute": "full"}})",
        R"({"elastic": {"granularity": "micro_batch"}})"}) {
    const nlohmann::json stage = to_json(plan_of(changes))["memory"]["stages"][0];
    double sum = 0;
    for (const char* cause :
         {"weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "buffers_bytes"}) {
      sum += stage[cause].get<double>();
    }
    EXPECT_DOUBLE_EQ(sum, stage["peak_allocated_bytes"].get<double>()) << changes;
  }
}

TEST(Simulate, PeakIsTheWorstDrawThatTheLawAllows) {
  const Plan free = plan_of("{}");
  const Job job = small_memory_job();
  EXPECT_NEAR(free.memory.peak.total.value, step_peak(job, {4, 4, 4}).total.value, 1e-6);
  const Plan bounded = plan_of(R"({"elastic": {"budget": {"kind": "at_most", "sum_k": 7}}})");
  EXPECT_LT(bounded.memory.peak.total, free.memory.peak.total);
  EXPECT_EQ(bounded.sum_k.max, 7);
  EXPECT_LE(bounded.peak_allocated.p99, bounded.peak_allocated.max);
}

TEST(Simulate, SaysWhatWouldMakeAJobFit) {
  const double need = plan_of("{}").memory.total().value;
  const double gib_needed = need / (1 << 30);
  const Plan plan = plan_of(R"({"hardware": {"usable_memory_gib": )" + std::to_string(gib_needed * 0.8) + "}}");
  EXPECT_NE(plan.fit.verdict, FitVerdict::kFits);
  ASSERT_FALSE(plan.fit.remedies.empty());
  for (const Remedy& remedy : plan.fit.remedies) EXPECT_GE(remedy.probability, plan.fit.confidence);
  for (size_t i = 1; i < plan.fit.remedies.size(); ++i) {
    EXPECT_LE(plan.fit.remedies[i - 1].tokens_per_second_lost, plan.fit.remedies[i].tokens_per_second_lost);
  }
}

TEST(Simulate, FitsIsProbabilityOverTheHorizon) {
  const Plan roomy = plan_of("{}");
  EXPECT_EQ(roomy.fit.verdict, FitVerdict::kFits);
  EXPECT_GT(roomy.fit.probability, 0.999);
  const Plan tight = plan_of(R"({"hardware": {"usable_memory_gib": 0.0001}})");
  EXPECT_EQ(tight.fit.verdict, FitVerdict::kDoesNotFit);
  EXPECT_EQ(tight.fit.probability, 0);
}

TEST(Simulate, RefusesSeveralDevicesByKey) {
  const Job job = small_memory_job(R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 2}})");
  try {
    simulate(job, default_calibration(job.hardware.spec));
    FAIL() << "two devices were simulated";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("hardware.num_devices = 2"), std::string::npos) << error.what();
  }
}

TEST(Simulate, JsonHasTheContractsKeys) {
  const nlohmann::json plan = to_json(plan_of(R"({"training": {"tokens": 1e6}})"));
  for (const char* pointer : {"/fits",
                              "/fit/verdict",
                              "/fit/probability",
                              "/fit/confidence",
                              "/fit/horizon_steps",
                              "/fit/limiting/moment",
                              "/fit/remedies",
                              "/memory/peak_allocated_bytes",
                              "/memory/peak_reserved_bytes",
                              "/throughput/step_seconds",
                              "/throughput/tokens_per_second_per_device",
                              "/throughput/model_flops_utilization",
                              "/throughput/model_tflops_per_device",
                              "/throughput/breakdown_seconds/experts",
                              "/elastic/sum_k/p99",
                              "/elastic/peak_allocated_bytes/std",
                              "/run/days",
                              "/run/device_hours",
                              "/run/cost",
                              "/intervals/step_seconds/1"}) {
    EXPECT_TRUE(plan.contains(nlohmann::json::json_pointer(pointer))) << pointer;
  }
}

}  // namespace
}  // namespace mmoe
