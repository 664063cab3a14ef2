#include "sim/validation/fit_framework.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "sim/cluster/step_time.h"
#include "sim/config/enum_names.h"
#include "sim/plan/fit_probability.h"
#include "sim/units/errors.h"
#include "sim/validation/error_spread.h"

namespace mmoe {
namespace {

constexpr double kLossScale = 0.05;   // errors far above this count linearly
constexpr double kPriorWidth = 0.25;  // standard deviation of a parameter about its initial value, share of its range
constexpr double kEdge = 0.01;        // starts lie this share of the range inside it
constexpr int kMaxIterations = 60;
constexpr int kNumStarts = 4;

// One number that rows' frameworks share, and where it goes.
struct Target {
  std::string name;
  std::vector<std::string> only;  // frameworks or devices; empty: all
  std::vector<double TimeParameters::*> time;
  std::vector<double NetworkParameters::*> network;
  double low = 0, high = 0, initial = 0;
  bool applies_to(const Job& job) const {
    return only.empty() || std::find(only.begin(), only.end(), job.training.framework) != only.end() ||
           std::find(only.begin(), only.end(), job.hardware.device) != only.end();
  }
};

// "a+b" as its parts.
std::vector<std::string> parts_of(std::string text) {
  std::vector<std::string> parts;
  for (std::size_t plus; (plus = text.find('+')) != std::string::npos; text.erase(0, plus + 1)) {
    parts.push_back(text.substr(0, plus));
  }
  parts.push_back(text);
  return parts;
}

struct FitRow {
  MeasuredRun run;
  Framework framework;
  std::string group;
  double measured = 0;  // seconds; of rows that give only MFU the time that it means
};

double to_free(double value, const Target& t) {
  const double share = std::clamp((value - t.low) / (t.high - t.low), kEdge, 1 - kEdge);
  return std::log(share / (1 - share));
}
double from_free(double free, const Target& t) { return t.low + (t.high - t.low) / (1 + std::exp(-free)); }

Target parse_target(const std::string& text, const std::vector<FitRow>& rows) {
  Target target;
  target.name = text;
  const std::size_t at = text.find('@');
  if (at != std::string::npos) target.only = parts_of(text.substr(at + 1));
  for (const std::string& name : parts_of(text.substr(0, at))) {
    bool found = false;
    for (const auto& d : kTimeParameterDefinitions) {
      if (d.name != name) continue;
      target.time.push_back(d.value);
      target.low = d.low;
      target.high = d.high;
      found = true;
    }
    for (const auto& d : kNetworkParameters) {
      if (d.name != name) continue;
      target.network.push_back(d.value);
      target.low = d.low;
      target.high = d.high;
      found = true;
    }
    if (!found)
      throw ConfigError("--fit " + text + ": \"" + name + "\" is no parameter of a framework's time or network");
  }
  for (const FitRow& row : rows) {
    if (!target.applies_to(row.run.job)) continue;
    target.initial =
        target.time.empty() ? row.framework.network.*target.network.front() : row.framework.time.*target.time.front();
    return target;
  }
  throw ConfigError("--fit " + text + ": no row is of " + text.substr(at + 1));
}

double predicted(const FitRow& row, const std::vector<Target>& targets, const Eigen::VectorXd& free) {
  Framework framework = row.framework;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    if (!target.applies_to(row.run.job)) continue;
    const double value = from_free(free[static_cast<Eigen::Index>(i)], target);
    for (double TimeParameters::*member : target.time) framework.time.*member = value;
    for (double NetworkParameters::*member : target.network) framework.network.*member = value;
  }
  return cluster_step_time(row.run.job, framework, row.run.job.elastic.k_max).step();
}

// Residuals whose squares sum to the soft-L1 loss, and the prior's.
Eigen::VectorXd residuals(const std::vector<const FitRow*>& rows, const std::vector<Target>& targets,
                          const Eigen::VectorXd& free) {
  const auto n = static_cast<Eigen::Index>(rows.size());
  Eigen::VectorXd r(n + free.size());
  for (Eigen::Index i = 0; i < n; ++i) {
    const FitRow& row = *rows[static_cast<std::size_t>(i)];
    const double z = std::log(predicted(row, targets, free) / row.measured) / kLossScale;
    r[i] = std::copysign(std::sqrt(2 * (std::sqrt(1 + z * z) - 1)), z);
  }
  for (Eigen::Index j = 0; j < free.size(); ++j) {
    const Target& target = targets[static_cast<std::size_t>(j)];
    r[n + j] = (from_free(free[j], target) - target.initial) / (kPriorWidth * (target.high - target.low));
  }
  return r;
}

// Levenberg-Marquardt from one start.
std::pair<Eigen::VectorXd, double> descend(const std::vector<const FitRow*>& rows, const std::vector<Target>& targets,
                                           const Eigen::VectorXd& start) {
  Eigen::VectorXd x = start, r = residuals(rows, targets, x);
  double damping = 1e-2;
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    Eigen::MatrixXd J(r.size(), x.size());
    constexpr double kStep = 1e-4;
    for (Eigen::Index j = 0; j < x.size(); ++j) {
      Eigen::VectorXd y = x;
      y[j] += kStep;
      J.col(j) = (residuals(rows, targets, y) - r) / kStep;
    }
    const Eigen::MatrixXd H = J.transpose() * J;
    const Eigen::VectorXd g = J.transpose() * r;
    bool better = false;
    for (int attempt = 0; attempt < 12 && !better; ++attempt) {
      Eigen::MatrixXd damped = H;
      damped.diagonal() += damping * (H.diagonal().array() + 1e-9).matrix();
      const Eigen::VectorXd step = damped.ldlt().solve(-g);
      const Eigen::VectorXd y = x + step.cwiseMax(-1.5).cwiseMin(1.5);
      const Eigen::VectorXd other = residuals(rows, targets, y);
      better = other.squaredNorm() < r.squaredNorm();
      if (!better) {
        damping *= 4;
        continue;
      }
      const double gain = 1 - other.squaredNorm() / r.squaredNorm();
      x = y;
      r = other;
      damping = std::max(damping / 5, 1e-8);
      if (gain < 1e-7) return {x, r.squaredNorm()};
    }
    if (!better) break;
  }
  return {x, r.squaredNorm()};
}

// The best of the descents from the initial values and from points spread over half of each range (Kronecker sequence
// of square roots: the same at every call).
Eigen::VectorXd minimise(const std::vector<const FitRow*>& rows, const std::vector<Target>& targets) {
  Eigen::VectorXd best;
  double least = 0;
  for (int i = 0; i < kNumStarts; ++i) {
    Eigen::VectorXd start(static_cast<Eigen::Index>(targets.size()));
    for (std::size_t j = 0; j < targets.size(); ++j) {
      const Target& target = targets[j];
      const double drawn = std::fmod(i * std::sqrt(static_cast<double>(j) + 2.5), 1.0);
      const double value = i == 0 ? target.initial : target.low + (target.high - target.low) * (0.25 + drawn / 2);
      start[static_cast<Eigen::Index>(j)] = to_free(value, target);
    }
    const auto [x, loss] = descend(rows, targets, start);
    if (i > 0 && loss >= least) continue;
    best = x;
    least = loss;
  }
  return best;
}

QuantityScore score_of(const std::vector<ScoredRow>& rows) {
  std::vector<const ScoredRow*> pointers;
  for (const ScoredRow& row : rows) pointers.push_back(&row);
  return score(pointers);
}

// Intervals of each row by what the other groups of its stratum err, or of all strata where it has no other.
void set_intervals(std::vector<ScoredRow>& rows) {
  for (ScoredRow& row : rows) {
    std::vector<GroupedError> others, of_stratum;
    for (const ScoredRow& other : rows) {
      if (other.group == row.group) continue;
      others.push_back({other.group, std::log(other.predicted / other.measured)});
      if (other.stratum == row.stratum) of_stratum.push_back(others.back());
    }
    if (others.empty()) continue;
    const Interval interval =
        error_interval(row.predicted, predictive_spread(of_stratum.empty() ? others : of_stratum));
    row.low = interval.low;
    row.high = interval.high;
  }
}

std::map<std::string, std::vector<ScoredRow>> by_stratum(const std::vector<ScoredRow>& rows) {
  std::map<std::string, std::vector<ScoredRow>> strata;
  for (const ScoredRow& row : rows) strata[row.stratum].push_back(row);
  return strata;
}

// The row's framework with the numbers that the fit starts from.
Framework start_framework(const MeasuredRun& run, const std::string& start) {
  const DeviceSpec& device = run.job.hardware.spec;
  Framework framework = load_framework(run.job.training.framework, device, "row " + run.id);
  if (start == "own") return framework;
  const Framework base = start == "defaults" ? Framework() : load_framework(start, device, "--start");
  framework.time = base.time;
  framework.network = base.network;
  return framework;
}

std::vector<FitRow> fit_rows(const std::vector<const CsvTable*>& tables, const FrameworkFitOptions& options) {
  const auto wanted = [](const std::vector<std::string>& list, const std::string& name) {
    return list.empty() || std::find(list.begin(), list.end(), name) != list.end();
  };
  std::vector<FitRow> rows;
  for (const CsvTable* table : tables) {
    for (const CsvRow& line : table->rows()) {
      const RunOrReason converted = measured_run(line);
      if (!converted.run) continue;
      const MeasuredRun& run = *converted.run;
      const Job& job = run.job;
      if (!run.step_seconds && !run.mfu) continue;
      if (!wanted(options.frameworks, job.training.framework) || !wanted(options.devices, job.hardware.device))
        continue;
      FitRow row{run, start_framework(run, options.start), "", 0};
      const double flops = reported_flops(job, run.convention).value / static_cast<double>(job.hardware.num_devices) /
                           job.hardware.spec.peak_bf16.value;
      row.measured = run.step_seconds ? *run.step_seconds : flops / *run.mfu;
      if (flops / row.measured < options.least_mfu) continue;
      row.group = model_group(job.model);
      if (options.by_device) row.group += " on " + job.hardware.device;
      rows.push_back(std::move(row));
    }
  }
  if (rows.empty()) throw ConfigError("--table: no row with a time is left to fit; check --framework and --device");
  return rows;
}

}  // namespace

FrameworkFit fit_framework(const std::vector<const CsvTable*>& tables, const FrameworkFitOptions& options) {
  const std::vector<FitRow> rows = fit_rows(tables, options);
  std::vector<Target> targets;
  for (const std::string& text : options.parameters) targets.push_back(parse_target(text, rows));
  FrameworkFit fit;
  fit.num_rows = static_cast<int64_t>(rows.size());
  std::vector<const FitRow*> all;
  std::map<std::string, int64_t> folds;
  for (const FitRow& row : rows) {
    all.push_back(&row);
    folds.emplace(row.group, 0);
  }
  const auto scored = [&](const FitRow& row, double predicted) {
    return ScoredRow{row.run.id, "step_seconds", row.measured, predicted, 0, 0, row.run.stratum, row.group};
  };
  std::vector<ScoredRow> before, after, held_out;
  const Eigen::VectorXd best = minimise(all, targets);
  for (const FitRow& row : rows) {
    before.push_back(scored(row, cluster_step_time(row.run.job, row.framework, row.run.job.elastic.k_max).step()));
    after.push_back(scored(row, predicted(row, targets, best)));
    fit.rows.push_back({row.run.id, row.run.stratum, row.group, row.measured, after.back().predicted, 0});
  }
  for (std::size_t j = 0; j < targets.size(); ++j) {
    const Target& target = targets[j];
    const double value = from_free(best[static_cast<Eigen::Index>(j)], target);
    fit.parameters.push_back({target.name, value, target.initial, target.low, target.high,
                              kPriorWidth * (target.high - target.low), value, value});
  }
  const int64_t num_folds = std::min(options.num_folds, static_cast<int64_t>(folds.size()));
  int64_t next = 0;
  for (auto& [group, fold] : folds) fold = next++ % std::max<int64_t>(num_folds, 1);
  for (int64_t fold = 0; fold < num_folds && num_folds > 1; ++fold) {
    std::vector<const FitRow*> kept;
    for (const FitRow& row : rows) {
      if (folds.at(row.group) != fold) kept.push_back(&row);
    }
    const Eigen::VectorXd x = minimise(kept, targets);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (folds.at(rows[i].group) != fold) continue;
      held_out.push_back(scored(rows[i], predicted(rows[i], targets, x)));
      fit.rows[i].held_out = held_out.back().predicted;
    }
    for (std::size_t j = 0; j < targets.size(); ++j) {
      const double value = from_free(x[static_cast<Eigen::Index>(j)], targets[j]);
      fit.parameters[j].fold_low = std::min(fit.parameters[j].fold_low, value);
      fit.parameters[j].fold_high = std::max(fit.parameters[j].fold_high, value);
    }
  }
  fit.before = score_of(before);
  fit.fitted = score_of(after);
  for (const auto& [stratum, scored_rows] : by_stratum(after)) fit.fitted_by_stratum[stratum] = score_of(scored_rows);
  if (held_out.empty()) return fit;
  set_intervals(held_out);
  fit.held_out = score_of(held_out);
  for (const auto& [stratum, scored_rows] : by_stratum(held_out)) {
    fit.held_out_by_stratum[stratum] = score_of(scored_rows);
  }
  return fit;
}

nlohmann::json to_json(const FrameworkFit& fit) {
  const auto score_json = [](const QuantityScore& s) {
    return nlohmann::json{{"count", s.count},
                          {"mean_absolute_error_fraction", s.mean_absolute_error_fraction},
                          {"median_absolute_error_fraction", s.median_absolute_error_fraction},
                          {"max_absolute_error_fraction", s.max_absolute_error_fraction},
                          {"bias_fraction", s.bias_fraction},
                          {"interval_coverage", s.interval_coverage},
                          {"spread", s.spread}};
  };
  nlohmann::json parameters = nlohmann::json::object();
  for (const FittedParameter& p : fit.parameters) {
    parameters[p.name] = {{"value", p.value}, {"initial", p.initial},         {"low", p.low},
                          {"high", p.high},   {"prior_width", p.prior_width}, {"folds", {p.fold_low, p.fold_high}}};
  }
  nlohmann::json strata = nlohmann::json::object(), rows = nlohmann::json::array();
  for (const auto& [stratum, s] : fit.fitted_by_stratum) strata[stratum]["fitted"] = score_json(s);
  for (const auto& [stratum, s] : fit.held_out_by_stratum) {
    strata[stratum]["after"] = score_json(s);
  }
  for (const FittedRow& row : fit.rows) {
    rows.push_back({{"id", row.id},
                    {"stratum", row.stratum},
                    {"model", row.group},
                    {"measured", row.measured},
                    {"fitted", row.fitted},
                    {"held_out", row.held_out}});
  }
  return {{"rows", fit.num_rows},
          {"parameters", parameters},
          {"before", {{"step_seconds", score_json(fit.before)}}},
          {"fitted", {{"step_seconds", score_json(fit.fitted)}}},
          {"after", {{"step_seconds", score_json(fit.held_out)}}},
          {"strata", strata},
          {"measured_rows", rows}};
}

}  // namespace mmoe
