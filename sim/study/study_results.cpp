#include "sim/study/study_results.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "sim/config/json_text.h"
#include "sim/study/paired_summary.h"

namespace mmoe {
namespace {

Summary summary_of(const std::vector<double>& samples) {
  std::vector<std::pair<double, double>> outcomes;
  for (const double sample : samples) outcomes.emplace_back(sample, 1);
  return ValueLaw(std::move(outcomes)).summary();
}

// The loss at the k where it is largest.
double worst_loss(const nlohmann::json& evaluation) {
  double worst = -INFINITY;
  for (const auto& [k, loss] : evaluation.at("loss_by_k").items()) worst = std::max(worst, loss.get<double>());
  return worst;
}

std::vector<std::pair<double, double>> worst_curve(const nlohmann::json& result) {
  std::vector<std::pair<double, double>> curve;
  for (const nlohmann::json& evaluation : result.at("evaluations")) {
    curve.emplace_back(evaluation.at("tokens").get<double>(), worst_loss(evaluation));
  }
  return curve;
}

double relative_saving(double with, double without) { return 1 - with / without; }

using ResultsBySeed = std::map<int64_t, nlohmann::json>;

// Of every seed that both have: measure(arm's result, baseline's result).
template <class Measure>
std::vector<double> paired(const ResultsBySeed& arm, const ResultsBySeed& baseline, Measure&& measure) {
  std::vector<double> values;
  for (const auto& [seed, result] : arm) values.push_back(measure(result, baseline.at(seed)));
  return values;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Saved share of the baseline's peak: its mean, p99 and largest over a run's steps.
nlohmann::json measured_savings(const ResultsBySeed& arm, const ResultsBySeed& baseline, const char* pointer) {
  nlohmann::json savings;
  const nlohmann::json::json_pointer at(pointer);
  for (const char* of : {"mean", "p99", "max"}) {
    savings[of] = paired_summary(paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json& there) {
      return relative_saving(here.at(at).at(of).get<double>(), there.at(at).at(of).get<double>());
    }));
  }
  return savings;
}

nlohmann::json measured_memory(const ResultsBySeed& arm, const ResultsBySeed& baseline) {
  nlohmann::json memory;
  for (const char* pointer :
       {"/peak_allocated_bytes", "/peak_reserved_bytes/default", "/peak_reserved_bytes/expandable_segments"}) {
    const nlohmann::json::json_pointer at(pointer);
    if (!arm.begin()->second.contains(at)) continue;
    nlohmann::json& entry = memory[at];
    for (const char* of : {"mean", "std", "p50", "p99", "max"}) {
      entry[of] = mean_of(
          paired(arm, arm, [&](const nlohmann::json& here, const nlohmann::json&) { return here.at(at).at(of); }));
    }
    entry["saving"] = measured_savings(arm, baseline, pointer);
  }
  return memory;
}

nlohmann::json quality(const ResultsBySeed& arm, const ResultsBySeed& baseline, double margin) {
  nlohmann::json json;
  const auto last = [](const nlohmann::json& result) -> const nlohmann::json& {
    return result.at("evaluations").back();
  };
  const nlohmann::json& losses = last(arm.begin()->second).at("loss_by_k");
  for (const auto& entry : losses.items()) {
    const std::string& k = entry.key();
    json["loss_by_k"][k] = mean_of(paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json&) {
      return last(here).at("loss_by_k").at(k).get<double>();
    }));
    json["difference_by_k"][k] =
        paired_summary(paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json& there) {
          return last(here).at("loss_by_k").at(k).get<double>() - last(there).at("loss_by_k").at(k).get<double>();
        }));
  }
  json["worst_k_loss"] = mean_of(
      paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json&) { return worst_loss(last(here)); }));
  const PairedSummary difference =
      paired_summary(paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json& there) {
        return worst_loss(last(here)) - worst_loss(last(there));
      }));
  json["worst_k_difference"] = difference;
  json["verdict"] = to_string(competitiveness(difference, margin));
  // Both reach the higher of the two final losses; how many more tokens the arm needs for it.
  json["tokens_ratio"] =
      paired_summary(paired(arm, baseline, [&](const nlohmann::json& here, const nlohmann::json& there) {
        const auto curve = worst_curve(here), reference = worst_curve(there);
        const double loss = std::max(curve.back().second, reference.back().second);
        return tokens_to_reach(curve, loss) / tokens_to_reach(reference, loss);
      }));
  return json;
}

// Step times of the arm, and its speed over the baseline's in the same round.
nlohmann::json speed(const nlohmann::json& timing, const std::string& arm, const std::string& baseline,
                     double tokens_per_step) {
  std::map<int64_t, double> arm_mean, baseline_mean;
  std::vector<double> all;
  for (const nlohmann::json& record : timing) {
    const auto seconds = record.at("seconds").get<std::vector<double>>();
    const auto round = record.at("round").get<int64_t>();
    if (record.at("arm") == baseline) baseline_mean[round] = mean_of(seconds);
    if (record.at("arm") != arm) continue;
    arm_mean[round] = mean_of(seconds);
    all.insert(all.end(), seconds.begin(), seconds.end());
  }
  if (all.empty()) return nullptr;
  std::vector<double> ratios;
  for (const auto& [round, mean] : arm_mean) ratios.push_back(baseline_mean.at(round) / mean);
  const Summary steps = summary_of(all);
  return {{"step_seconds", steps},
          {"tokens_per_second", tokens_per_step / steps.mean},
          {"speed_ratio", paired_summary(ratios)}};
}

}  // namespace

nlohmann::json run_measurements(const std::string& metrics_path, int64_t steps) {
  const std::vector<nlohmann::json> lines = read_json_lines(metrics_path, "run the study again");
  if (static_cast<int64_t>(lines.size()) != steps) {
    throw std::runtime_error(metrics_path + ": " + std::to_string(lines.size()) + " steps of " + std::to_string(steps));
  }
  double k_sum = 0, k_count = 0;
  std::map<std::string, std::vector<double>> peaks;
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const nlohmann::json& micro_batch : lines[i].at("k_per_layer")) {
      for (const nlohmann::json& k : micro_batch) k_sum += k.get<double>(), ++k_count;
    }
    if (i == 0 && lines.size() > 1) continue;
    peaks["/peak_allocated_bytes"].push_back(lines[i].at("peak_allocated_bytes").get<double>());
    if (!lines[i].contains("replayed_reserved_bytes")) continue;
    for (const auto& [kind, bytes] : lines[i]["replayed_reserved_bytes"].items()) {
      peaks["/peak_reserved_bytes/" + kind].push_back(bytes.get<double>());
    }
  }
  nlohmann::json json = {{"mean_k", k_sum / k_count}};
  for (const auto& [pointer, samples] : peaks) json[nlohmann::json::json_pointer(pointer)] = summary_of(samples);
  return json;
}

std::vector<double> step_seconds(const std::string& metrics_path, int64_t warmup_steps) {
  std::vector<double> seconds;
  for (const nlohmann::json& line : read_json_lines(metrics_path, "run the study again")) {
    if (line.at("step").get<int64_t>() > warmup_steps) seconds.push_back(line.at("seconds").get<double>());
  }
  return seconds;
}

double tokens_to_reach(const std::vector<std::pair<double, double>>& curve, double loss) {
  for (size_t i = 0; i < curve.size(); ++i) {
    const auto [tokens, here] = curve[i];
    if (here > loss) continue;
    if (i == 0) return tokens;
    const auto [tokens_before, before] = curve[i - 1];
    const double share = (before - loss) / (before - here);
    return tokens_before * std::pow(tokens / tokens_before, share);
  }
  return curve.back().first;
}

nlohmann::json summarize_depth(const BudgetStudy& study, const std::vector<ResolvedArm>& arms,
                               const std::map<std::string, std::map<int64_t, nlohmann::json>>& results,
                               const nlohmann::json& timing) {
  const ResolvedArm& baseline = arms.front();
  const TrainingConfig& training = baseline.job.training;
  const auto tokens_per_step = static_cast<double>(training.global_batch_size * training.seq_len);
  nlohmann::json depth = {{"num_layers", baseline.depth},
                          {"steps", baseline.steps},
                          {"tokens", static_cast<double>(baseline.steps) * tokens_per_step},
                          {"arms", nlohmann::json::array()},
                          {"naive", cut_marginals(arms)}};
  for (const ResolvedArm& arm : arms) {
    const nlohmann::json job = to_json(arm.job);
    nlohmann::json entry = {{"name", arm.name},
                            {"role", arm.role},
                            {"elastic", job.at("elastic")},
                            {"micro_batch_size", arm.job.training.micro_batch_size},
                            {"recompute", job.at("training").at("recompute")},
                            {"mean_k", arm.mean_k},
                            {"kl_per_layer", arm.kl_per_layer}};
    if (arm.predicted_peak) {
      entry["predicted"]["peak_allocated_bytes"] = *arm.predicted_peak;
      entry["predicted"]["saving"] = {
          {"mean", relative_saving(arm.predicted_peak->mean, baseline.predicted_peak->mean)},
          {"p99", relative_saving(arm.predicted_peak->p99, baseline.predicted_peak->p99)}};
    }
    const auto& here = results.at(arm.name);
    const auto& there = results.at(baseline.name);
    entry["measured"] = measured_memory(here, there);
    entry["measured"]["mean_k"] = mean_of(
        paired(here, there, [](const nlohmann::json& result, const nlohmann::json&) { return result.at("mean_k"); }));
    // An arm of another length measures memory alone.
    entry["quality"] = arm.steps == baseline.steps ? quality(here, there, study.margin) : nlohmann::json();
    entry["timing"] = speed(timing, arm.name, baseline.name, tokens_per_step);
    depth["arms"].push_back(std::move(entry));
  }
  return depth;
}

}  // namespace mmoe
