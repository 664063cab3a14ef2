#include <nlohmann/json.hpp>

#include "sim/elastic/budget_plan.h"
#include "sim/elastic/elastic_law.h"
#include "sim/plan/cluster_budget.h"

namespace mmoe {
namespace {

nlohmann::json speed_json(const BudgetSpeed& speed) {
  return {{"tokens_per_second_per_device", speed.tokens_per_second_per_device},
          {"step_seconds", speed.time.step.summary()},
          {"standard_error_seconds", speed.time.standard_error},
          {"uneven_k_seconds", speed.uneven_k_seconds},
          {"straggling_seconds", speed.time.straggling_seconds}};
}

nlohmann::json tuned_json(const Job& job, const TunedBudget& point) {
  return {{"budget", budget_json(job, point.budget)},     {"kl_divergence", point.kl_divergence},
          {"kl_standard_error", point.kl_standard_error}, {"expected_sum_k_fraction", point.expected_sum_fraction},
          {"peak_allocated_bytes", point.peak},           {"probability_within_limit", point.probability_within_limit},
          {"saving_fraction", saving_json(point.saving)}};
}

}  // namespace

nlohmann::json to_json(const ClusterBudget& plan) {
  const BudgetTuning& tuning = plan.tuning;
  nlohmann::json front = nlohmann::json::array();
  for (const TunedBudget& point : tuning.front) front.push_back(tuned_json(plan.job, point));
  nlohmann::json json = {{"budget", nullptr},
                         {"budget_needed", tuning.budget_needed},
                         {"limit_bytes", tuning.limit},
                         {"reserved_factor", plan.reserved_factor},
                         {"expert_load_factor", plan.load_factor},
                         {"expert_load_by_k", plan.load_by_k},
                         {"confidence", plan.request.confidence},
                         {"draws_confidence", plan.draws_confidence},
                         {"horizon", {{"steps", plan.steps}, {"replicas", plan.replicas}}},
                         {"k_dependent_fraction", plan.k_dependent_fraction},
                         {"mean_k", {{"with", plan.mean_k}, {"without", plan.free_mean_k}}},
                         {"front", front},
                         {"uses_of_freed_memory", uses_json(plan.job, plan.uses, speed_json)}};
  if (!plan.request.saving) json["memory_limit_bytes"] = plan.memory_limit.value;
  json["without"] = {{"peak_allocated_bytes", tuning.free_peak},
                     {"mean_peak_allocated_bytes", tuning.free_mean_peak},
                     {"largest_peak_allocated_bytes", tuning.free_largest_peak},
                     {"least_peak_allocated_bytes", plan.least_peak},
                     {"probability_within_limit", tuning.free_probability_within_limit},
                     {"throughput", speed_json(plan.without)}};
  if (!tuning.choice) {
    json["reason"] = tuning.reason;
    return json;
  }
  json.update(tuned_json(plan.job, *tuning.choice));
  if (tuning.choice->budget.kind == BudgetKind::kWindow) {
    json["kl_divergence"] = {{"all", tuning.choice->kl_divergence}};
  } else {
    ElasticConfig budgeted = plan.job.elastic;
    budgeted.budget = tuning.choice->budget;
    if (plan.job.elastic.budget) budgeted.budget = plan.job.elastic.budget;  // with the layers of its groups
    const ElasticLaw with(budgeted, static_cast<int>(plan.job.model.num_moe_layers()));
    add_laws(json, with, with.without_budget());
  }
  if (plan.sliding) {
    json["sliding_probability_within_limit"] = {{"value", 1 - plan.sliding->value},
                                                {"standard_error", plan.sliding->standard_error}};
  }
  json["expected_flops_fraction"] = plan.expected_flops_fraction;
  json["throughput"] = speed_json(plan.with);
  return json;
}

}  // namespace mmoe
