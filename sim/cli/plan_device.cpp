#include "sim/cli/plan_device.h"

#include <algorithm>
#include <cstdio>

#include "sim/config/recompute_text.h"

namespace mmoe {
namespace {

std::string budget_text(const PlanCandidate& candidate) {
  const auto& budget = candidate.plan.job.elastic.budget;
  if (!budget) return "none";
  int64_t total = 0;
  for (const int64_t bound : budget->sum_k) total += bound;
  return (budget->kind == BudgetKind::kExact ? "= " : "<= ") + std::to_string(total);
}

nlohmann::json candidate_json(const PlanCandidate& candidate) {
  const nlohmann::json job = to_json(candidate.plan.job), plan = to_json(candidate.plan);
  return {{"parallelism", job["parallelism"]},
          {"training", job["training"]},
          {"elastic", job["elastic"]},
          {"memory", plan["memory"]},
          {"throughput", plan["throughput"]},
          {"run", plan["run"]},
          {"fit", plan["fit"]},
          {"kl_divergence", candidate.kl_divergence},
          {"expected_sum_fraction", candidate.expected_sum_fraction},
          {"on_front", candidate.on_front}};
}

std::size_t num_shown(const PlanSearchResult& result, const PlanRequest& request) {
  return std::min<std::size_t>(result.candidates.size(), std::max(0, request.top));
}

}  // namespace

bool searches_budget(const Job& job, const PlanRequest& request) {
  return request.search_budget || job.elastic.budget_is_auto;
}

PlanSearchResult find_device_plans(const Job& job, const Calibration& calibration, const PlanRequest& request) {
  check_layout(job);
  return search_plans(job, calibration, request.confidence,
                      searches_budget(job, request) ? BudgetSearch::kOn : BudgetSearch::kOff);
}

nlohmann::json to_json(const PlanSearchResult& result, const PlanRequest& request) {
  nlohmann::json json = {{"objective", request.objective},
                         {"evaluated", result.evaluated},
                         {"rejected", result.rejected},
                         {"seconds", result.seconds},
                         {"candidates", nlohmann::json::array()}};
  for (std::size_t i = 0; i < num_shown(result, request); ++i) {
    json["candidates"].push_back(candidate_json(result.candidates[i]));
  }
  return json;
}

void print(const PlanSearchResult& result, const PlanRequest& request) {
  std::printf("%4s  %11s  %-33s  %-7s  %12s  %10s  %9s  %7s\n", "rank", "micro-batch", "recompute", "sum k", "peak",
              "step", "tokens/s", "front");
  for (size_t i = 0; i < num_shown(result, request); ++i) {
    const PlanCandidate& candidate = result.candidates[i];
    const Plan& plan = candidate.plan;
    std::printf("%4zu  %11ld  %-33s  %-7s  %12s  %10s  %9.0f  %7s\n", i + 1,
                static_cast<long>(plan.job.training.micro_batch_size),
                recompute_text(plan.job.training.recompute, plan.job.training.expert_saving).c_str(),
                budget_text(candidate).c_str(), to_string(plan.memory.total()).c_str(),
                to_string(plan.throughput.step).c_str(), plan.throughput.tokens_per_second_per_device,
                candidate.on_front ? "*" : "");
  }
  std::printf("%ld evaluated in %s", static_cast<long>(result.evaluated), to_string(Seconds{result.seconds}).c_str());
  for (const auto& [reason, count] : result.rejected) {
    std::printf("; %ld rejected: %s", static_cast<long>(count), reason.c_str());
  }
  std::printf("\n* no other candidate is as fast, as small and as rich in active experts\n");
}

}  // namespace mmoe
