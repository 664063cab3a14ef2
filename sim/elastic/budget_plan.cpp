#include "sim/elastic/budget_plan.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "sim/formulas/model_flops.h"
#include "sim/memory/peak_terms.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kDefaultHorizonSteps = 1000;

// z with P(standard normal <= z) = q, by bisection.
double normal_quantile(double q) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < q ? low : high) = middle;
  }
  return (low + high) / 2;
}

// Replicas draw on their own unless they share their draws.
double draws_a_step(const Job& job) {
  if (job.elastic.granularity == Granularity::kGlobalBatch) return 1;
  const int64_t replicas = job.elastic.share == DrawSharing::kReplicas ? 1 : job.data_parallel_size();
  return static_cast<double>(job.num_micro_batches() * replicas);
}

StageMemory stage_memory(const Job& job, Bytes framework) {
  const PeakTerms terms = peak_terms(job);
  return {(terms.persistent + framework).value, (terms.least + framework).value, terms.terms};
}

double expected_flops(const Job& job, const ElasticLaw& law) {
  const auto global_batch = static_cast<double>(job.training.global_batch_size);
  return model_step_flops(job.model, static_cast<double>(job.training.seq_len), global_batch, law.sum().mean()).value;
}

nlohmann::json sums_json(const ElasticLaw& law) {
  nlohmann::json groups = nlohmann::json::array();
  for (int g = 0; g < law.num_groups(); ++g) {
    nlohmann::json pairs = nlohmann::json::array();
    const DiscreteLaw sum = law.sum_of_group(g);
    for (int64_t v = sum.min(); v <= sum.max(); ++v) {
      if (sum.probability(v) > 0) pairs.push_back({v, sum.probability(v)});
    }
    groups.push_back(std::move(pairs));
  }
  return groups;
}

nlohmann::json front_json(const BudgetPlan& plan) {
  nlohmann::json front = nlohmann::json::array();
  for (const TunedBudget& point : plan.tuning.front) {
    front.push_back({{"budget", budget_json(plan.job, point.budget)},
                     {"kl_divergence", point.kl_divergence},
                     {"expected_sum_k_fraction", point.expected_sum_fraction},
                     {"peak_allocated_bytes", point.peak},
                     {"probability_within_limit", point.probability_within_limit},
                     {"saving_fraction", saving_json(point.saving)}});
  }
  return front;
}

}  // namespace

nlohmann::json saving_json(const Saving& saving) {
  return {{"p99", saving.p99}, {"mean", saving.mean}, {"k_max", saving.k_max}};
}

nlohmann::json budget_json(const Job& job, const Budget& budget) {
  Job with = job;
  with.elastic.budget = budget;
  return to_json(with)["elastic"]["budget"];
}

void check_budget_request(const Job& job, const BudgetRequest& request) {
  if (job.model.num_moe_layers() == 0) {
    throw ConfigError(job.where + ": model.num_experts = 0: a dense model draws no k, so there is nothing to bound");
  }
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where +
                      ": elastic.sampling = top_p chooses k per token, so no sum of draws can be bounded; " +
                      "use uniform or capacity_weighted");
  }
  if (request.memory_limit && request.saving) {
    throw ConfigError("budget: --memory-limit and --saving are two goals; give one of them");
  }
  if (request.memory_limit && !(request.memory_limit->value > 0)) {
    throw ConfigError("budget: --memory-limit must be more than 0 bytes");
  }
  if (request.saving && !(*request.saving > 0 && *request.saving < 1)) {
    throw ConfigError("budget: --saving = " + nlohmann::json(*request.saving).dump() +
                      " is no fraction between 0 and 1; 0.1 asks for 10 %");
  }
  if (!(request.confidence > 0 && request.confidence < 1)) {
    throw ConfigError("budget: --confidence = " + nlohmann::json(request.confidence).dump() +
                      " must lie between 0 and 1, both excluded; e.g. 0.99");
  }
  if (request.steps < 0) {
    throw ConfigError("budget: --steps = " + std::to_string(request.steps) + " must be at least 1");
  }
}

int64_t budget_horizon(const Job& job, const BudgetRequest& request) {
  if (request.steps > 0) return request.steps;
  const int64_t steps = job.training.num_steps();
  return steps > 0 ? steps : kDefaultHorizonSteps;
}

DrawsLimit draws_limit(Bytes limit, double confidence, double spread) {
  if (spread <= 0) return {limit.value, confidence};
  const double half = 1 - (1 - confidence) / 2;
  return {limit.value * std::exp(-spread * normal_quantile(half)), half};
}

BudgetPlan plan_budget(const Job& job, const Calibration& calibration, const BudgetRequest& request) {
  check_budget_request(job, request);
  if (job.hardware.num_devices != 1) {
    throw ConfigError(job.where + ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) +
                      ", but budgets are tuned for one device; set it to 1");
  }
  BudgetGoal goal;
  goal.saving = request.saving;
  goal.confidence = request.confidence;
  const int64_t steps = budget_horizon(job, request);
  goal.step_draws = draws_a_step(job);
  goal.horizon_draws = goal.step_draws * static_cast<double>(steps);
  const Bytes limit = request.memory_limit.value_or(job.hardware.usable_memory);
  if (!goal.saving) {
    const DrawsLimit draws = draws_limit(limit, request.confidence, calibration.peak_bytes_spread);
    goal.memory_limit = draws.bytes;
    goal.confidence = draws.confidence;
  }
  Job free = job;
  free.elastic.budget.reset();
  free.elastic.budget_is_auto = false;
  const StageMemory stage = stage_memory(free, calibration.framework_overhead());
  BudgetTuning tuning = tune_budget(free.elastic, {stage}, goal);

  const int num_layers = static_cast<int>(job.model.num_moe_layers());
  Job tuned = free;
  if (tuning.choice) tuned.elastic.budget = tuning.choice->budget;
  const ElasticLaw with(tuned.elastic, num_layers), without(free.elastic, num_layers);
  ElasticConfig least = free.elastic;
  least.k_max = least.k_min;
  RunningMaximumTerms least_terms = stage.terms;
  for (auto& bump : least_terms.bump) bump.resize(1);
  const double least_peak =
      std::max(stage.least, stage.constant + largest_running_maximum(ElasticLaw(least, num_layers), least_terms));
  BudgetPlan plan{.job = tuned,
                  .confidence = request.confidence,
                  .goal = goal,
                  .memory_limit = limit,
                  .steps = steps,
                  .tuning = std::move(tuning),
                  .with = with,
                  .without = without,
                  .expected_flops_fraction = expected_flops(job, with) / expected_flops(job, without)};
  plan.k_dependent_fraction = 1 - least_peak / plan.tuning.free_peak;
  if (plan.tuning.limit < stage.constant && !plan.tuning.choice) {
    plan.tuning.reason = "weights, gradients, optimizer and buffers alone take " + to_string(Bytes{stage.constant}) +
                         ", above the limit of " + to_string(Bytes{plan.tuning.limit}) +
                         "; no budget changes them, more devices or a smaller model do";
  }
  return plan;
}

Job with_automatic_budget(const Job& job, const Calibration& calibration) {
  if (!job.elastic.budget_is_auto) return job;
  const BudgetPlan plan = plan_budget(job, calibration, {});
  if (!plan.tuning.choice) {
    throw ConfigError(job.where + ": elastic.budget = auto: no budget fits: " + plan.tuning.reason);
  }
  return plan.job;
}

void add_laws(nlohmann::json& json, const ElasticLaw& with, const ElasticLaw& without) {
  json["sum_k"] = {{"with", sums_json(with)}, {"without", sums_json(without)}};
  json["marginals"] = nlohmann::json::array();
  for (const DiscreteLaw& law : with.marginals()) json["marginals"].push_back(law.probabilities());
  json["kl_divergence"] = {{"by_layer", with.kl_divergence_by_layer()}, {"all", with.kl_divergence()}};
  json["entropy"] = with.entropy();
}

nlohmann::json to_json(const BudgetPlan& plan) {
  const BudgetTuning& tuning = plan.tuning;
  nlohmann::json json = {{"budget", nullptr},
                         {"budget_needed", tuning.budget_needed},
                         {"limit_bytes", tuning.limit},
                         {"confidence", plan.confidence},
                         {"draws_confidence", plan.goal.confidence},
                         {"horizon", {{"steps", plan.steps}, {"draws", plan.goal.horizon_draws}}},
                         {"k_dependent_fraction", plan.k_dependent_fraction},
                         {"front", front_json(plan)}};
  if (!plan.goal.saving) json["memory_limit_bytes"] = plan.memory_limit.value;
  json["without"] = {{"peak_allocated_bytes", tuning.free_peak},
                     {"mean_peak_allocated_bytes", tuning.free_mean_peak},
                     {"largest_peak_allocated_bytes", tuning.free_largest_peak},
                     {"probability_within_limit", tuning.free_probability_within_limit}};
  if (!tuning.choice) {
    json["reason"] = tuning.reason;
    return json;
  }
  json["budget"] = budget_json(plan.job, tuning.choice->budget);
  add_laws(json, plan.with, plan.without);
  json["expected_flops_fraction"] = plan.expected_flops_fraction;
  json["saving_fraction"] = saving_json(tuning.choice->saving);
  json["peak_allocated_bytes"] = tuning.choice->peak;
  json["probability_within_limit"] = tuning.choice->probability_within_limit;
  return json;
}

}  // namespace mmoe
