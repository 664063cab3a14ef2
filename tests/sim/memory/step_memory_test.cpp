#include "sim/memory/step_memory.h"

#include <gtest/gtest.h>

#include "sim/formulas/parameter_counts.h"
#include "tests/sim/memory/memory_testing.h"

namespace mmoe {
namespace {

TEST(StepMemory, PartsSumToTheTotal) {
  for (const char* changes : {"{}", R"({"training": {"precision": "bf16", "recompute": "full"}})"}) {
    const Job job = small_memory_job(changes);
    const StepPeak peak = step_peak(job, {1, 4, 2});
    EXPECT_DOUBLE_EQ((persistent_memory(job).total() + peak.activations + peak.logits + peak.workspace).value,
                     peak.total.value);
  }
}

TEST(StepMemory, StatesFollowThePrecision) {
  const double parameters = parameter_counts(small_memory_job().model).total();
  const auto states = [](const PersistentMemory& memory) {
    return (memory.weights + memory.gradients + memory.optimizer).value;
  };
  EXPECT_EQ(states(persistent_memory(small_memory_job())), 16 * parameters);
  EXPECT_EQ(states(persistent_memory(small_memory_job(R"({"training": {"precision": "bf16"}})"))), 18 * parameters);
  EXPECT_EQ(states(persistent_memory(small_memory_job(R"({"training": {"precision": "fp64"}})"))), 32 * parameters);
}

TEST(StepMemory, NeverFallsWithTheMicroBatchOrWithK) {
  for (const char* recompute : {R"("none")", R"("full")", R"(["moe"])"}) {
    Bytes last;
    for (const int size : {1, 2, 4, 8}) {
      const Job job = small_memory_job(R"({"training": {"global_batch_size": 8, "micro_batch_size": )" +
                                       std::to_string(size) + R"(, "recompute": )" + recompute + "}}");
      const Bytes total = step_peak(job, {2, 2, 2}).total;
      EXPECT_GE(total, last) << recompute << size;
      last = total;
    }
    const Job job = small_memory_job(std::string(R"({"training": {"recompute": )") + recompute + "}}");
    last = Bytes{};
    for (const std::vector<int>& k : {std::vector{1, 1, 1}, {1, 2, 1}, {2, 2, 1}, {2, 2, 4}, {4, 4, 4}}) {
      const Bytes total = step_peak(job, k).total;
      EXPECT_GE(total, last) << recompute;
      last = total;
    }
  }
}

TEST(StepMemory, RecomputationSavesMemory) {
  const std::vector<int> k = {4, 4, 4};
  EXPECT_LT(step_peak(small_memory_job(R"({"training": {"recompute": "full"}})"), k).total,
            step_peak(small_memory_job(), k).total);
}

}  // namespace
}  // namespace mmoe
