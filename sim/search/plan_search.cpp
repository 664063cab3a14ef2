#include "sim/search/plan_search.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "sim/elastic/budget_plan.h"

namespace mmoe {
namespace {

std::vector<int64_t> micro_batch_sizes(const Job& job) {
  if (job.given.count("training.micro_batch_size") > 0) return {job.training.micro_batch_size};
  const int64_t per_replica = job.training.global_batch_size / job.data_parallel_size();
  std::vector<int64_t> sizes;
  for (int64_t size = 1; size <= per_replica; ++size) {
    if (per_replica % size == 0) sizes.push_back(size);
  }
  return sizes;
}

std::vector<Recompute> recomputes(const Job& job) {
  if (job.given.count("training.recompute") > 0) return {job.training.recompute};
  std::vector<Recompute> all = {{false, {}}, {false, {"attention"}}, {true, {}}};
  if (job.model.num_moe_layers() > 0) all.push_back({false, {"moe"}});
  return all;
}

// Of what is kept for the experts' backward pass; with experts recomputed as a whole, and without any, nothing is.
std::vector<ExpertSaving> expert_savings(const Job& job, const Recompute& recompute) {
  const bool matters = job.model.num_moe_layers() > 0 && !recompute.full && !recompute.has("moe") &&
                       job.training.operations == OperationSet::kKernels;
  if (!matters || job.given.count("training.expert_saving") > 0) return {job.training.expert_saving};
  return {ExpertSaving::kLean, ExpertSaving::kAll, ExpertSaving::kRecompute};
}

// The budget that keeps the most diversity within the device's memory; nothing where none does or nothing is drawn.
std::optional<TunedBudget> tuned(const Job& job, const Calibration& calibration, int64_t horizon, double confidence) {
  if (job.model.num_moe_layers() == 0 || job.elastic.sampling == Sampling::kTopP) return std::nullopt;
  BudgetRequest request;
  request.confidence = confidence;
  request.steps = horizon;
  return plan_budget(job, calibration, request).tuning.choice;
}

void mark_front(std::vector<PlanCandidate>& candidates) {
  const auto better = [](const PlanCandidate& a, const PlanCandidate& b) {
    const double time_a = a.plan.throughput.step.value, time_b = b.plan.throughput.step.value;
    const double bytes_a = a.plan.memory.total().value, bytes_b = b.plan.memory.total().value;
    const bool no_worse = time_a <= time_b && bytes_a <= bytes_b && a.expected_sum_fraction >= b.expected_sum_fraction;
    return no_worse && (time_a < time_b || bytes_a < bytes_b || a.expected_sum_fraction > b.expected_sum_fraction);
  };
  for (PlanCandidate& candidate : candidates) {
    candidate.on_front = std::none_of(candidates.begin(), candidates.end(),
                                      [&](const PlanCandidate& other) { return better(other, candidate); });
  }
}

// The job with every combination of what it leaves open.
std::vector<Job> tried_jobs(const Job& job) {
  std::vector<Job> jobs;
  for (const int64_t size : micro_batch_sizes(job)) {
    for (const Recompute& recompute : recomputes(job)) {
      for (const ExpertSaving saving : expert_savings(job, recompute)) {
        Job& tried = jobs.emplace_back(job);
        tried.training.micro_batch_size = size;
        tried.training.recompute = recompute;
        tried.training.expert_saving = saving;
        tried.elastic.budget_is_auto = false;
      }
    }
  }
  return jobs;
}

}  // namespace

PlanSearchResult search_plans(const Job& job, const Calibration& calibration, double confidence, BudgetSearch budget) {
  const auto start = std::chrono::steady_clock::now();
  PlanSearchResult result;
  for (Job& tried : tried_jobs(job)) {
    PlanCandidate candidate{simulate(tried, calibration)};
    candidate.own_law_tokens_per_second = candidate.plan.throughput.tokens_per_second_per_device;
    ++result.evaluated;
    if (candidate.plan.fit.probability < confidence) {
      if (budget == BudgetSearch::kOff) {
        ++result.rejected["does not fit the memory"];
        continue;
      }
      const auto choice = tuned(tried, calibration, candidate.plan.fit.horizon_steps, confidence);
      if (!choice) {
        ++result.rejected["does not fit the memory under any budget"];
        continue;
      }
      tried.elastic.budget = choice->budget;
      candidate.plan = simulate(tried, calibration);
      candidate.kl_divergence = choice->kl_divergence;
      candidate.expected_sum_fraction = choice->expected_sum_fraction;
      ++result.evaluated;
    }
    result.candidates.push_back(std::move(candidate));
  }
  std::stable_sort(result.candidates.begin(), result.candidates.end(),
                   [](const PlanCandidate& a, const PlanCandidate& b) {
                     const bool own_a = a.kl_divergence == 0, own_b = b.kl_divergence == 0;
                     return own_a != own_b ? own_a : a.plan.throughput.step < b.plan.throughput.step;
                   });
  mark_front(result.candidates);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace mmoe
