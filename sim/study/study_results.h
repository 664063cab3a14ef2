#pragma once
// What the runs of a study measured, and what follows from it.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/study/budget_study.h"

namespace mmoe {

// From a run's metrics.jsonl: mean_k; peak_allocated_bytes and, where the run replayed them,
// peak_reserved_bytes.{default, expandable_segments}, each {mean, std, p50, p99, max} over the steps from the second
// on (the first allocates the optimizer's state late). Throws std::runtime_error where a step is missing.
nlohmann::json run_measurements(const std::string& metrics_path, int64_t steps);

// Seconds of each step after the first `warmup_steps`.
std::vector<double> step_seconds(const std::string& metrics_path, int64_t warmup_steps);

// Tokens at which a loss curve (tokens rising, loss) first reaches `loss`, linear in log tokens between its points.
// Where it starts below, its first tokens; where it never reaches it, its last.
double tokens_to_reach(const std::vector<std::pair<double, double>>& curve, double loss);

// results[arm][seed]: result.json of each run of one depth; timing: records {round, arm, seconds[]} of that depth.
// Gives {num_layers, steps, tokens, arms[], naive[]}: for each arm what was predicted, measured and concluded; arms
// of another length than the baseline's measure memory alone.
nlohmann::json summarize_depth(const BudgetStudy& study, const std::vector<ResolvedArm>& arms,
                               const std::map<std::string, std::map<int64_t, nlohmann::json>>& results,
                               const nlohmann::json& timing);

}  // namespace mmoe
