#include "sim/plan/freed_memory.h"

#include <gtest/gtest.h>

#include "tests/sim/elastic/small_job.h"

namespace mmoe {
namespace {

struct Speed {
  double tokens_per_second_per_device = 0;
};

BudgetTuning loosest(const Job&) {
  BudgetTuning tuning;
  tuning.budget_needed = false;
  tuning.choice = TunedBudget{};
  return tuning;
}

std::vector<std::string> changes(const std::vector<FreedMemoryUse<Speed>>& uses) {
  std::vector<std::string> names;
  for (const auto& use : uses) names.push_back(use.change);
  return names;
}

TEST(FreedMemory, UsesAreTheFasterChangesTheFastestFirst) {
  const Job job = small_job({{"training.recompute", "full"}});
  const auto speed = [](const Job& changed, const BudgetTuning&) {
    if (changed.training.recompute.full) return Speed{static_cast<double>(changed.training.micro_batch_size)};
    return Speed{changed.training.recompute.modules.empty() ? 12.0 : 7.0};
  };
  const auto uses = uses_of_freed_memory(job, Speed{8}, loosest, speed);
  EXPECT_EQ(changes(uses), (std::vector<std::string>{"--training.micro_batch_size 32", "--training.micro_batch_size 16",
                                                     "--training.recompute none"}));
  EXPECT_DOUBLE_EQ(uses.front().gain, 3);
}

TEST(FreedMemory, ChangesThatAreNoJobOrKeepNoMemoryAreNoUses) {
  const Job job = small_job({{"training.micro_batch_size", "16"}});  // 64 is no part of the global batch of 32
  const auto fast = [](const Job&, const BudgetTuning&) { return Speed{2}; };
  EXPECT_EQ(changes(uses_of_freed_memory(job, Speed{1}, loosest, fast)),
            (std::vector<std::string>{"--training.micro_batch_size 32"}));
  const auto none = [](const Job&) { return BudgetTuning{}; };
  EXPECT_TRUE(uses_of_freed_memory(job, Speed{1}, none, fast).empty());
}

TEST(FreedMemory, JsonNamesABudgetOnlyWhereItIsNeeded) {
  const Job job = small_job();
  TunedBudget tuned;
  tuned.budget = Budget{BudgetKind::kAtMost, {6}, {7}, {}};
  nlohmann::json (*speed_json)(const Speed&) = [](const Speed& speed) {
    return nlohmann::json(speed.tokens_per_second_per_device);
  };
  const std::vector<FreedMemoryUse<Speed>> uses = {{"--a 1", tuned, true, Speed{3}, 0.5},
                                                   {"--b 2", tuned, false, {}, 0.25}};
  const nlohmann::json json = uses_json(job, uses, speed_json);
  EXPECT_EQ(json[0]["budget"]["sum_k"], (std::vector<int64_t>{7}));
  EXPECT_EQ(json[0]["throughput"], 3);
  EXPECT_TRUE(json[1]["budget"].is_null());
  EXPECT_EQ(json[1]["gain_fraction"], 0.25);
}

}  // namespace
}  // namespace mmoe
