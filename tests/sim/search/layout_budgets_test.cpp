#include "sim/search/layout_budgets.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

Job job_of(const char* patch) {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 2048, "num_layers": 16, "num_heads": 16, "vocab_size": 50304, "num_experts": 64,
              "expert_hidden_size": 1024},
    "hardware": {"cluster": "dgx-h100", "num_devices": 8, "usable_memory_gib": 40},
    "parallelism": {"tensor": 1, "context": 1, "zero_stage": 1},
    "training": {"framework": "megatron_core", "seq_len": 4096, "global_batch_size": 64, "recompute": "none",
                 "moe": {"dispatcher": "alltoall"}},
    "elastic": {"k_min": 1, "k_max": 8}})");
  json.merge_patch(nlohmann::json::parse(patch));
  return parse_job(json, "job.json", ".", {}, Layout::kOpen);
}

Framework framework_of(const Job& job) {
  return load_framework(job.training.framework, job.hardware.spec, "training.framework");
}

TEST(LayoutBudgets, FitOnlyWithTheirBudgetAndKeepTheLimits) {
  const Job job = job_of("{}");
  const Framework framework = framework_of(job);
  LayoutSearchOptions options;
  options.top = 4;
  const BudgetLimits limits;
  const BudgetedLayouts result = search_layout_budgets(job, framework, options, limits);
  ASSERT_FALSE(result.layouts.empty());
  double last = 0;
  for (const BudgetedLayout& one : result.layouts) {
    EXPECT_GE(one.plan.fit.probability, options.confidence);
    const ClusterPlan own = simulate_cluster(with_layout(job, one.layout), framework);
    EXPECT_LT(own.fit.probability, options.confidence) << "a budget where none is needed";
    EXPECT_EQ(one.own_law_seconds, own.time.step.mean());
    EXPECT_LT(one.plan.time.step.mean(), one.own_law_seconds)
        << "fewer experts take less time: no reason to rank higher";
    EXPECT_GE(one.own_law_seconds, last);
    last = one.own_law_seconds;
    EXPECT_GE(one.cost.expected_sum_fraction, limits.least_sum_fraction);
    EXPECT_LT(one.cost.expected_sum_fraction, 1);
    EXPECT_GT(one.cost.kl_per_layer, 0);
    EXPECT_LE(one.cost.kl_per_layer, limits.most_kl_per_layer);
    ASSERT_TRUE(one.plan.job.elastic.budget.has_value());
    EXPECT_EQ(one.plan.job.elastic.budget->sum_k.size(), static_cast<size_t>(one.layout.parallelism.pipeline));
  }
}

TEST(LayoutBudgets, NarrowerLimitsSaveFewerLayouts) {
  const Job job = job_of("{}");
  const Framework framework = framework_of(job);
  LayoutSearchOptions options;
  options.top = 4;
  BudgetLimits narrow;
  narrow.least_sum_fraction = 0.97;
  const BudgetedLayouts few = search_layout_budgets(job, framework, options, narrow);
  for (const BudgetedLayout& one : few.layouts) EXPECT_GE(one.cost.expected_sum_fraction, 0.97);
  BudgetLimits impossible;
  impossible.most_kl_per_layer = 1e-12;
  EXPECT_TRUE(search_layout_budgets(job, framework, options, impossible).layouts.empty());
}

// Two layers, k of 1 or 2, sum at most 3: three of four draws are left, each likely as before.
TEST(BudgetCost, EqualsTheCountedLaw) {
  Job job = job_of(R"({"model": {"num_layers": 2}, "elastic": {"k_max": 2}})");
  job.elastic.budget = Budget{BudgetKind::kAtMost, {2}, {3}, {}};
  const BudgetCost cost = budget_cost(job);
  EXPECT_NEAR(cost.expected_sum, 8.0 / 3, 1e-12);
  EXPECT_NEAR(cost.expected_sum_fraction, 8.0 / 9, 1e-12);
  // P(1) = 2/3 against 1/2.
  EXPECT_NEAR(cost.kl_per_layer, 2.0 / 3 * std::log(4.0 / 3) + 1.0 / 3 * std::log(2.0 / 3), 1e-12);
}

TEST(LayoutBudgets, AreSearchedWhereKIsDrawnAndNoneIsGiven) {
  const Job fixed = job_of(R"({"elastic": {"k_min": 8}})");
  EXPECT_THROW(search_layout_budgets(fixed, framework_of(fixed), {}, {}), ConfigError);
  const Job given = job_of(R"({"elastic": {"budget": {"kind": "at_most", "sum_k": 80}}})");
  EXPECT_THROW(search_layout_budgets(given, framework_of(given), {}, {}), ConfigError);
}

}  // namespace
}  // namespace mmoe
