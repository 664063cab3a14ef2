#include "sim/validation/fit_framework.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "sim/cluster/step_time.h"
#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kLossScale = 0.05;   // errors far above this count linearly
constexpr double kPriorSpread = 0.5;  // of a parameter on the unbounded scale, about its initial value
constexpr int kMaxIterations = 60;

// One number that rows' frameworks share, and where it goes.
struct Target {
  std::string name, only;  // only: a framework or device; empty: all
  std::vector<double TimeParameters::*> time;
  std::vector<double NetworkParameters::*> network;
  double low = 0, high = 0, initial = 0;
};

struct FitRow {
  MeasuredRun run;
  Framework framework;
  std::string group;
  double measured = 0;  // seconds; of rows that give only MFU the time that it means
};

double to_free(double value, const Target& t) {
  const double share = std::clamp((value - t.low) / (t.high - t.low), 1e-3, 1 - 1e-3);
  return std::log(share / (1 - share));
}
double from_free(double free, const Target& t) { return t.low + (t.high - t.low) / (1 + std::exp(-free)); }

Target parse_target(const std::string& text, const std::vector<FitRow>& rows) {
  Target target;
  target.name = text;
  const std::size_t at = text.find('@');
  if (at != std::string::npos) target.only = text.substr(at + 1);
  std::string names = text.substr(0, at);
  while (!names.empty()) {
    const std::size_t plus = names.find('+');
    const std::string name = names.substr(0, plus);
    names = plus == std::string::npos ? "" : names.substr(plus + 1);
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
    if (!target.only.empty() && target.only != row.run.job.training.framework &&
        target.only != row.run.job.hardware.device)
      continue;
    target.initial =
        target.time.empty() ? row.framework.network.*target.network.front() : row.framework.time.*target.time.front();
    return target;
  }
  throw ConfigError("--fit " + text + ": no row is of " + target.only);
}

double predicted(const FitRow& row, const std::vector<Target>& targets, const Eigen::VectorXd& free) {
  Framework framework = row.framework;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    if (!target.only.empty() && target.only != row.run.job.training.framework &&
        target.only != row.run.job.hardware.device)
      continue;
    const double value = from_free(free[static_cast<Eigen::Index>(i)], target);
    for (double TimeParameters::*member : target.time) framework.time.*member = value;
    for (double NetworkParameters::*member : target.network) framework.network.*member = value;
  }
  return cluster_step_time(row.run.job, framework, row.run.job.elastic.k_max).step();
}

// Residuals whose squares sum to the soft-L1 loss, and the prior's.
Eigen::VectorXd residuals(const std::vector<const FitRow*>& rows, const std::vector<Target>& targets,
                          const Eigen::VectorXd& free, const Eigen::VectorXd& start) {
  const auto n = static_cast<Eigen::Index>(rows.size());
  Eigen::VectorXd r(n + free.size());
  for (Eigen::Index i = 0; i < n; ++i) {
    const FitRow& row = *rows[static_cast<std::size_t>(i)];
    const double z = std::log(predicted(row, targets, free) / row.measured) / kLossScale;
    r[i] = std::copysign(std::sqrt(2 * (std::sqrt(1 + z * z) - 1)), z);
  }
  r.tail(free.size()) = (free - start) / kPriorSpread;
  return r;
}

Eigen::VectorXd minimise(const std::vector<const FitRow*>& rows, const std::vector<Target>& targets,
                         const Eigen::VectorXd& start) {
  Eigen::VectorXd x = start, r = residuals(rows, targets, x, start);
  double damping = 1e-2;
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    Eigen::MatrixXd J(r.size(), x.size());
    constexpr double kStep = 1e-4;
    for (Eigen::Index j = 0; j < x.size(); ++j) {
      Eigen::VectorXd y = x;
      y[j] += kStep;
      J.col(j) = (residuals(rows, targets, y, start) - r) / kStep;
    }
    const Eigen::MatrixXd H = J.transpose() * J;
    const Eigen::VectorXd g = J.transpose() * r;
    bool better = false;
    for (int attempt = 0; attempt < 12 && !better; ++attempt) {
      Eigen::MatrixXd damped = H;
      damped.diagonal() += damping * (H.diagonal().array() + 1e-9).matrix();
      const Eigen::VectorXd step = damped.ldlt().solve(-g);
      const Eigen::VectorXd y = x + step.cwiseMax(-1.5).cwiseMin(1.5);
      const Eigen::VectorXd other = residuals(rows, targets, y, start);
      better = other.squaredNorm() < r.squaredNorm();
      if (!better) {
        damping *= 4;
        continue;
      }
      const double gain = 1 - other.squaredNorm() / r.squaredNorm();
      x = y;
      r = other;
      damping = std::max(damping / 5, 1e-8);
      if (gain < 1e-7) return x;
    }
    if (!better) break;
  }
  return x;
}

QuantityScore score_of(const std::vector<ScoredRow>& rows) {
  std::vector<const ScoredRow*> pointers;
  for (const ScoredRow& row : rows) pointers.push_back(&row);
  return score(pointers);
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
      FitRow row{run, load_framework(job.training.framework, job.hardware.spec, "row " + run.id), "", 0};
      const double flops = reported_flops(job, run.convention).value / static_cast<double>(job.hardware.num_devices) /
                           job.hardware.spec.peak_bf16.value;
      row.measured = run.step_seconds ? *run.step_seconds : flops / *run.mfu;
      if (flops / row.measured < options.least_mfu) continue;
      row.group = std::to_string(job.model.hidden_size) + "x" + std::to_string(job.model.num_layers) + "x" +
                  std::to_string(job.model.num_experts);
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
  Eigen::VectorXd start(static_cast<Eigen::Index>(options.parameters.size()));
  for (const std::string& text : options.parameters) {
    targets.push_back(parse_target(text, rows));
    start[static_cast<Eigen::Index>(targets.size()) - 1] = to_free(targets.back().initial, targets.back());
  }
  FrameworkFit fit;
  fit.num_rows = static_cast<int64_t>(rows.size());
  std::vector<const FitRow*> all;
  std::map<std::string, int64_t> folds;
  for (const FitRow& row : rows) {
    all.push_back(&row);
    folds.emplace(row.group, 0);
  }
  const auto scored = [&](const FitRow& row, const Eigen::VectorXd& free) {
    return ScoredRow{row.run.id, "step_seconds", row.measured, predicted(row, targets, free), 0, 0, row.run.stratum};
  };
  std::vector<ScoredRow> before, after, held_out;
  const Eigen::VectorXd best = minimise(all, targets, start);
  for (const FitRow& row : rows) {
    before.push_back(scored(row, start));
    after.push_back(scored(row, best));
  }
  fit.before = score_of(before);
  fit.fitted = score_of(after);
  const int64_t num_folds = std::min(options.num_folds, static_cast<int64_t>(folds.size()));
  int64_t next = 0;
  for (auto& [group, fold] : folds) fold = next++ % std::max<int64_t>(num_folds, 1);
  for (int64_t fold = 0; fold < num_folds && num_folds > 1; ++fold) {
    std::vector<const FitRow*> kept;
    for (const FitRow& row : rows) {
      if (folds.at(row.group) != fold) kept.push_back(&row);
    }
    const Eigen::VectorXd x = minimise(kept, targets, start);
    for (const FitRow& row : rows) {
      if (folds.at(row.group) == fold) held_out.push_back(scored(row, x));
    }
  }
  if (!held_out.empty()) {
    fit.held_out = score_of(held_out);
    std::vector<double> errors;
    for (const ScoredRow& row : held_out) errors.push_back(std::abs(std::log(row.predicted / row.measured)));
    std::sort(errors.begin(), errors.end());
    // Of a normal law, 90 % lie within 1.645 standard deviations.
    fit.held_out_spread = errors[static_cast<std::size_t>(0.9 * static_cast<double>(errors.size() - 1))] / 1.645;
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    fit.parameters.push_back({targets[i].name, from_free(best[static_cast<Eigen::Index>(i)], targets[i]),
                              targets[i].initial, targets[i].low, targets[i].high});
  }
  return fit;
}

nlohmann::json to_json(const FrameworkFit& fit) {
  const auto score_json = [](const QuantityScore& s) {
    return nlohmann::json{{"count", s.count},
                          {"mean_absolute_error_fraction", s.mean_absolute_error_fraction},
                          {"median_absolute_error_fraction", s.median_absolute_error_fraction},
                          {"max_absolute_error_fraction", s.max_absolute_error_fraction},
                          {"bias_fraction", s.bias_fraction}};
  };
  nlohmann::json parameters = nlohmann::json::object();
  for (const FittedParameter& p : fit.parameters) {
    parameters[p.name] = {{"value", p.value}, {"initial", p.initial}, {"low", p.low}, {"high", p.high}};
  }
  return {{"rows", fit.num_rows},
          {"parameters", parameters},
          {"before", {{"step_seconds", score_json(fit.before)}}},
          {"fitted", {{"step_seconds", score_json(fit.fitted)}}},
          {"after", {{"step_seconds", score_json(fit.held_out)}}},
          {"spread", fit.held_out_spread}};
}

}  // namespace mmoe
