#include "sim/cli/plan_remedies.h"

#include "sim/cli/calibration_flag.h"
#include "sim/cli/plan_device.h"
#include "sim/cli/plan_layouts.h"
#include "sim/plan/shell_word.h"
#include "sim/plan/trainable.h"

namespace mmoe {
namespace {

struct Best {
  Job job;
  Outcome outcome;
};

// The first of a search of the job; nothing where nothing fits.
std::optional<Best> best_of(const Job& job, const std::string& calibration, const PlanRequest& request) {
  if (is_cluster_job(job)) {
    const LayoutPlans plans = find_layout_plans(job, framework_for(calibration, job), request);
    if (plans.shown.empty()) return std::nullopt;
    const LayoutPlan& first = plans.shown.front();
    return Best{first.plan.job, {first.plan.fit.probability, first.own_law_tokens_per_second()}};
  }
  const PlanSearchResult plans = find_device_plans(job, calibration_for(calibration, job), request);
  if (plans.candidates.empty()) return std::nullopt;
  const PlanCandidate& first = plans.candidates.front();
  return Best{first.plan.job, {first.plan.fit.probability, first.own_law_tokens_per_second}};
}

Job with_unlimited_memory(Job job) {
  job.hardware.usable_memory = gib(1e9);
  job.elastic.budget_is_auto = false;
  return job;
}

// One layout is enough; its command asks for one too, and finds the same.
PlanRequest one_of(PlanRequest request) {
  request.top = 1;
  return request;
}

// The request's flags as the words that follow the job's, with --calibration.
std::string flags_of(const PlanRequest& request, const std::string& calibration) {
  const PlanRequest usual;
  std::string flags;
  const auto add = [&](const char* flag, const auto& value, const auto& default_value) {
    if (value != default_value) flags += std::string(" --") + flag + " " + nlohmann::json(value).dump();
  };
  if (!calibration.empty()) flags += " --calibration " + shell_word(calibration);
  add("top", request.top, usual.top);
  if (request.objective != usual.objective) flags += " --objective " + request.objective;
  add("confidence", request.confidence, usual.confidence);
  if (request.search_budget) flags += " --search-budget";
  add("min-sum-fraction", request.budget_limits.least_sum_fraction, usual.budget_limits.least_sum_fraction);
  add("max-kl", request.budget_limits.most_kl_per_layer, usual.budget_limits.most_kl_per_layer);
  return flags;
}

}  // namespace

std::vector<Remedy> find_plan_remedies(const OpenJob& load, const std::string& calibration,
                                       const PlanRequest& request) {
  const Job job = load({});
  PlanRequest without_budget = one_of(request);
  without_budget.search_budget = false;
  const std::optional<Best> before = best_of(with_unlimited_memory(job), calibration, without_budget);
  const bool is_trained = before && trainer_runs(before->job);
  RemedySearch search;
  search.changes = search_changes(job);
  if (request.search_budget) {
    std::erase_if(search.changes, [](const Change& change) { return change.settings[0].first == "elastic.budget"; });
  }
  search.load = load;
  search.evaluate = [&](const Job& changed) -> std::optional<Outcome> {
    const std::optional<Best> best = best_of(changed, calibration, one_of(request));
    if (!best || (is_trained && !trainer_runs(best->job))) return std::nullopt;
    return best->outcome;
  };
  if (before) search.tokens_per_second = before->outcome.tokens_per_second_per_device;
  return find_remedies(search);
}

void add_remedies(nlohmann::json& answer, const Job& job, const std::vector<Remedy>& found,
                  const std::string& calibration, const PlanRequest& request) {
  answer["remedies"] = to_json("mmoe plan", job, found, flags_of(one_of(request), calibration));
}

}  // namespace mmoe
