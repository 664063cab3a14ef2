#include "sim/cli/plan_layouts.h"

#include <algorithm>
#include <array>
#include <iostream>

#include "sim/cli/table.h"
#include "sim/config/enum_names.h"
#include "sim/config/recompute_text.h"

namespace mmoe {
namespace {

// Layouts that the search keeps beyond those to show, since some may fail the full simulation (of the default allocator
// by the holes of a replay, which the search does not see). Where none is left it is repeated with more.
constexpr int64_t kSpare[] = {100, 400};

constexpr const char* kFailedInFull = "fits by the search's closed forms, not by the full simulation";

// No other is at least as good in time at the job's own law, in memory, in experts and in diversity, and better in one.
void mark_front(std::vector<LayoutPlan>& shown) {
  const auto values = [](const LayoutPlan& s) {
    double reserved = 0;
    for (const RankReport& report : s.plan.ranks) reserved = std::max(reserved, report.worst.peak_reserved.value);
    return std::array{s.own_law_seconds, reserved, -s.cost.expected_sum, s.cost.kl_per_layer};
  };
  for (LayoutPlan& one : shown) {
    const auto mine = values(one);
    one.on_front = std::none_of(shown.begin(), shown.end(), [&](const LayoutPlan& other) {
      const auto theirs = values(other);
      bool as_good = true, better = false;
      for (std::size_t i = 0; i < mine.size(); ++i) {
        as_good &= theirs[i] <= mine[i];
        better |= theirs[i] < mine[i];
      }
      return as_good && better;
    });
  }
}

bool draws_k(const Job& job) { return job.model.num_moe_layers() > 0 && job.elastic.sampling != Sampling::kTopP; }

nlohmann::json candidate_json(const LayoutPlan& simulated) {
  const nlohmann::json job = to_json(simulated.plan.job), plan = to_json(simulated.plan);
  nlohmann::json json = {{"parallelism", job["parallelism"]},
                         {"training", job["training"]},
                         {"memory", plan["memory"]},
                         {"throughput", plan["throughput"]},
                         {"elastic_law", plan["elastic"]},
                         {"run", plan["run"]},
                         {"fit", plan["fit"]},
                         {"own_law_step_seconds", simulated.own_law_seconds},
                         {"on_front", simulated.on_front}};
  if (job.contains("elastic")) json["elastic"] = job["elastic"];
  if (draws_k(simulated.plan.job)) {
    json["expected_sum_k"] = simulated.cost.expected_sum;
    json["expected_sum_fraction"] = simulated.cost.expected_sum_fraction;
    json["kl_per_layer"] = simulated.cost.kl_per_layer;
  }
  return json;
}

nlohmann::json layout_json(const Job& job, const LayoutCandidate& layout) {
  const nlohmann::json resolved = to_json(with_layout(job, layout));
  return {{"parallelism", resolved["parallelism"]},
          {"micro_batch_size", layout.micro_batch_size},
          {"recompute", resolved["training"]["recompute"]},
          {"recompute_num_layers", resolved["training"]["recompute_num_layers"]},
          {"expert_saving", resolved["training"]["expert_saving"]},
          {"overlap", layout.overlap},
          {"offload", name_of(layout.offload)},
          {"peak_reserved_bytes", layout.peak_bytes}};
}

nlohmann::json rejection_json(const Job& job, const Rejection& rejection) {
  nlohmann::json json = {{"count", rejection.count}};
  if (!rejection.closest) return json;
  json["least_excess_bytes"] = rejection.least_excess_bytes;
  json["stage"] = rejection.stage;
  json["closest"] = layout_json(job, *rejection.closest);
  return json;
}

// By reason, with the families of which no layout is left.
nlohmann::json rejected_json(const Job& job, const LayoutSearchResult& result) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [reason, rejection] : result.rejected) json[reason] = rejection_json(job, rejection);
  for (const auto& [reason, families] : rejected_families(result.families)) {
    for (const auto& [key, rejection] : families) {
      nlohmann::json family = rejection_json(job, rejection);
      family["family"] = family_name(key);
      family["pipeline"] = key.first;
      family["tensor"] = key.second;
      json[reason]["families"].push_back(std::move(family));
    }
  }
  return json;
}

// "micro-batch 1, recompute full, ZeRO 3".
std::string memory_choices_text(const LayoutCandidate& layout) {
  return "micro-batch " + std::to_string(layout.micro_batch_size) + ", recompute " +
         recompute_text(layout.recompute, layout.expert_saving) + ", ZeRO " +
         std::to_string(layout.parallelism.zero_stage) +
         (layout.offload == Offload::kNone ? "" : ", offload " + name_of(layout.offload));
}

// "memory of stage 0 over by 12.00 GiB at best (micro-batch 1, recompute full, ZeRO 3)".
std::string excess_text(const Rejection& rejection) {
  return "memory of stage " + std::to_string(rejection.stage) + " over by " + in_gib(rejection.least_excess_bytes) +
         " GiB at best (" + memory_choices_text(*rejection.closest) + ")";
}

void print_failed(const FailedInFull& failed, std::ostream& out) {
  if (!failed.closest) return;
  const ParallelismConfig& p = failed.closest->parallelism;
  out << "  " << failed.count << " of the fastest rejected: " << kFailedInFull << "; fits with "
      << percent(failed.probability) << " at best (" << family_name({p.pipeline, p.tensor}) << ", "
      << memory_choices_text(*failed.closest) << ")\n";
}

void print_rejected(const LayoutSearchResult& result, std::ostream& out) {
  constexpr std::size_t kShownFamilies = 6;  // of a reason
  const auto rejected = rejected_families(result.families);
  for (const auto& [reason, rejection] : result.rejected) {
    out << "  " << rejection.count << " rejected: " << reason;
    if (rejection.closest) out << "; " << excess_text(rejection);
    out << '\n';
    const auto families = rejected.find(reason);
    if (families == rejected.end()) continue;
    std::vector<std::pair<FamilyKey, Rejection>> list(families->second.begin(), families->second.end());
    std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) {
      return a.second.least_excess_bytes < b.second.least_excess_bytes;
    });
    for (std::size_t i = 0; i < std::min(kShownFamilies, list.size()); ++i) {
      out << "    nothing of " << family_name(list[i].first);
      if (list[i].second.closest) out << ": " << excess_text(list[i].second);
      out << '\n';
    }
    if (list.size() > kShownFamilies) {
      out << "    and of " << list.size() - kShownFamilies << " more families, listed by --json\n";
    }
  }
}

std::string schedule_text(const ParallelismConfig& parallelism) {
  return parallelism.pipeline > 1 ? name_of(parallelism.schedule) : "-";
}

std::string context_text(const ParallelismConfig& parallelism) {
  if (parallelism.context == 1) return "1";
  return std::to_string(parallelism.context) + " " + name_of(parallelism.context_kind);
}

std::string budget_text(const LayoutPlan& simulated) {
  if (!simulated.needs_budget) return "-";
  int64_t bound = 0;
  for (const int64_t of_group : simulated.plan.job.elastic.budget->sum_k) bound += of_group;
  return "<= " + std::to_string(bound);
}

// Layers of each chunk, runs of equal ones together: "1x3 15x4".
std::string stages_text(const ParallelismConfig& parallelism) {
  const std::vector<int64_t>& layers = parallelism.stage_layers;
  std::string text;
  for (auto begin = layers.begin(); begin != layers.end();) {
    const auto end = std::find_if(begin, layers.end(), [&](int64_t length) { return length != *begin; });
    text += (text.empty() ? "" : " ") + std::to_string(end - begin) + "x" + std::to_string(*begin);
    begin = end;
  }
  return text.empty() ? "-" : text;
}

// A column that is shown where a layout has another value than the job. How many layers are recomputed stands with what
// is.
struct ChosenColumn {
  const char* header;
  std::string (*text)(const Job&);
};
constexpr ChosenColumn kChosenColumns[] = {
    {"layers", [](const Job& job) { return stages_text(job.parallelism); }},
    {"group",
     [](const Job& job) {
       return job.parallelism.zero_group > 0 ? std::to_string(job.parallelism.zero_group) : std::string("all");
     }},
    {"overlap", [](const Job& job) { return std::string(job.training.overlap ? "yes" : "no"); }},
    {"offload", [](const Job& job) { return name_of(job.training.offload); }}};

std::vector<std::string> row(std::size_t rank, const LayoutPlan& simulated) {
  const ClusterPlan& plan = simulated.plan;
  const ParallelismConfig& p = plan.job.parallelism;
  const auto text = [](int64_t value) { return std::to_string(value); };
  double reserved = 0;
  for (const RankReport& report : plan.ranks) reserved = std::max(reserved, report.worst.peak_reserved.value);
  return {text(static_cast<int64_t>(rank)),
          text(p.tensor),
          context_text(p),
          text(p.pipeline),
          schedule_text(p),
          text(p.virtual_pipeline),
          text(plan.job.data_parallel_size()),
          text(p.expert),
          text(p.expert_tensor),
          text(p.zero_stage),
          text(plan.job.training.micro_batch_size),
          recompute_text(plan.job.training.recompute, plan.job.training.expert_saving),
          plan.job.model.num_experts > 0 ? name_of(plan.job.training.moe.dispatcher) : "-",
          in_gib(reserved),
          percent(plan.fit.probability),
          budget_text(simulated),
          significant(simulated.own_law_seconds, 4),
          significant(simulated.own_law_tokens_per_second(), 4),
          percent(plan.model_flops_utilization),
          simulated.on_front ? "*" : ""};
}

// The fastest that fit by the full simulation too.
std::vector<LayoutPlan> simulated_in_full(const Job& job, const Framework& framework,
                                          const std::vector<LayoutCandidate>& candidates, std::size_t top,
                                          double confidence, FailedInFull& failed) {
  std::vector<LayoutPlan> shown;
  for (const LayoutCandidate& candidate : candidates) {
    if (shown.size() == top) break;
    LayoutPlan simulated;
    simulated.plan = simulate_cluster(with_layout(job, candidate), framework);
    const double probability = simulated.plan.fit.probability;
    if (probability < confidence) {
      ++failed.count;
      if (failed.closest && probability <= failed.probability) continue;
      failed.probability = probability;
      failed.closest = candidate;
      continue;
    }
    simulated.own_law_seconds = simulated.plan.time.step.mean();
    if (draws_k(job)) simulated.cost = budget_cost(simulated.plan.job);
    shown.push_back(std::move(simulated));
  }
  std::stable_sort(shown.begin(), shown.end(),
                   [](const LayoutPlan& a, const LayoutPlan& b) { return a.own_law_seconds < b.own_law_seconds; });
  return shown;
}

}  // namespace

LayoutPlans find_layout_plans(const Job& job, const Framework& framework, const PlanRequest& request) {
  LayoutSearchOptions options;
  const auto top = static_cast<std::size_t>(std::max(1, request.top));
  options.confidence = request.confidence;
  LayoutPlans plans;
  std::vector<LayoutPlan>& shown = plans.shown;
  for (const int64_t spare : kSpare) {
    options.top = static_cast<int64_t>(top) + spare;
    const double before = plans.search.seconds;
    plans.search = search_layouts(job, framework, options);
    plans.search.seconds += before;
    plans.failed_in_full = {};
    shown = simulated_in_full(job, framework, plans.search.candidates, top, options.confidence, plans.failed_in_full);
    const bool is_all = static_cast<int64_t>(plans.search.candidates.size()) < options.top;
    if (!shown.empty() || is_all) break;
  }
  if (request.search_budget || job.elastic.budget_is_auto) {
    // Layouts that need a budget stand behind all that need none: a budget trains fewer experts.
    options.top = 2 * static_cast<int64_t>(top);
    BudgetedLayouts budgeted = search_layout_budgets(job, framework, options, request.budget_limits);
    plans.without_budget = std::move(budgeted.rejected);
    for (BudgetedLayout& one : budgeted.layouts) {
      shown.push_back({std::move(one.plan), one.own_law_seconds, one.cost, true, false});
    }
  }
  mark_front(shown);
  return plans;
}

nlohmann::json to_json(const Job& job, const LayoutPlans& plans, const PlanRequest& request) {
  nlohmann::json rejected = rejected_json(job, plans.search);
  for (const auto& [reason, count] : plans.without_budget) rejected[reason] = {{"count", count}};
  if (const FailedInFull& failed = plans.failed_in_full; failed.closest) {
    rejected[kFailedInFull] = {
        {"count", failed.count}, {"probability", failed.probability}, {"closest", layout_json(job, *failed.closest)}};
  }
  nlohmann::json front = nlohmann::json::array(), candidates = nlohmann::json::array();
  for (const LayoutCandidate& candidate : plans.search.front) {
    front.push_back(layout_json(job, candidate));
    front.back()["step_seconds"] = candidate.step_seconds;
  }
  for (const LayoutPlan& simulated : plans.shown) candidates.push_back(candidate_json(simulated));
  return {{"objective", request.objective},
          {"evaluated", plans.search.evaluated},
          {"rejected", rejected},
          {"seconds", plans.search.seconds},
          {"front", front},
          {"candidates", candidates}};
}

void print(const Job& job, const LayoutPlans& plans, std::ostream& out) {
  Table table{.header = {"rank",   "tensor",     "context", "pipeline", "schedule",  "virtual",  "data",
                         "expert", "exp.tensor", "zero",    "micro",    "recompute", "dispatch", "GiB",
                         "fits",   "budget",     "step s",  "tokens/s", "MFU",       "front"},
              .rows = {}};
  const auto place = std::find(table.header.begin(), table.header.end(), "GiB") - table.header.begin();
  std::vector<ChosenColumn> chosen;
  for (const ChosenColumn& column : kChosenColumns) {
    const bool is_chosen = std::any_of(plans.shown.begin(), plans.shown.end(), [&](const LayoutPlan& simulated) {
      return column.text(simulated.plan.job) != column.text(job);
    });
    if (is_chosen) chosen.push_back(column);
  }
  const auto insert = [&](std::vector<std::string>& cells, const auto& text_of) {
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      cells.insert(cells.begin() + place + static_cast<std::ptrdiff_t>(i), text_of(chosen[i]));
    }
  };
  insert(table.header, [](const ChosenColumn& column) { return std::string(column.header); });
  for (std::size_t i = 0; i < plans.shown.size(); ++i) {
    std::vector<std::string> cells = row(i + 1, plans.shown[i]);
    insert(cells, [&](const ChosenColumn& column) { return column.text(plans.shown[i].plan.job); });
    table.add(std::move(cells));
  }
  print_table(table, out);
  out << plans.search.evaluated << " layouts evaluated in " << significant(plans.search.seconds, 3) << " s\n";
  print_failed(plans.failed_in_full, out);
  print_rejected(plans.search, out);
  for (const auto& [reason, count] : plans.without_budget) out << "  " << count << " not saved: " << reason << '\n';
  out << "* none listed is as fast, as small and as rich in experts, or more so; steps are timed at the job's own "
         "law\n";
}

}  // namespace mmoe
