// mmoe calibrate --profile FILE... --out FILE: refits the efficiency and overhead parameters to measured profiles.

#include <cstdio>
#include <iostream>
#include <memory>

#include "profiles/store/atomic_file.h"
#include "sim/calibration/fit.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"
#include "sim/validation/fit_framework.h"

namespace mmoe {
namespace {

// "0.3461", "2.5e+09": parameters span twenty orders of magnitude.
std::string short_number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

void print_errors(const FitResult& result, std::ostream& out) {
  out << "Mean absolute error on records that were not fitted\n";
  if (result.after.empty()) {
    out << "  none: the profile holds too few records to keep some back\n";
    return;
  }
  Table table;
  table.header = {"quantity", "records", "before", "after", "bias after", "inside 90 % interval"};
  for (const auto& [quantity, after] : result.after) {
    const ErrorSummary& before = result.before.at(quantity);
    table.add({quantity, std::to_string(after.count), percent(before.mean_absolute_error_fraction),
               percent(after.mean_absolute_error_fraction), percent(after.bias_fraction),
               percent(after.interval_coverage)});
  }
  print_table(table, out, "  ");
}

void print_parameters(const Calibration& calibration, std::ostream& out) {
  out << "\nFitted parameters\n";
  Table table;
  table.header = {"parameter", "value", "standard error", "low", "high", "unit"};
  for (const std::string& name : calibration.covariance_names) {
    const CalibrationParameter& p = *calibration.find(name);
    table.add({name, short_number(p.value, 4), short_number(p.standard_error, 2), short_number(p.low, 3),
               short_number(p.high, 3), p.unit});
  }
  print_table(table, out, "  ");
}

void print(const FitResult& result, std::ostream& out) {
  out << "Fitted " << result.fitted_records << " records, kept back " << result.held_out_records;
  if (!result.held_out.empty()) {
    out << " (";
    for (size_t i = 0; i < result.held_out.size(); ++i) out << (i > 0 ? "; " : "") << result.held_out[i];
    out << ")";
  }
  if (result.ignored_records > 0) out << ", ignored " << result.ignored_records << " that the model does not cover";
  out << ".\n\n";
  print_errors(result, out);
  print_parameters(result.calibration, out);
}

std::vector<std::string> words(const Flags& flags, const char* flag) {
  std::vector<std::string> list;
  if (!flags.has(flag)) return list;
  for (std::string text : flags.get<std::vector<std::string>>(flag)) {
    for (std::size_t comma; (comma = text.find(',')) != std::string::npos; text.erase(0, comma + 1)) {
      list.push_back(text.substr(0, comma));
    }
    list.push_back(text);
  }
  return list;
}

void print_score(const std::string& name, const QuantityScore& score, double coverage, Table& table) {
  if (score.count == 0) return;
  table.add({name, std::to_string(score.count), percent(score.mean_absolute_error_fraction),
             percent(score.median_absolute_error_fraction), percent(score.max_absolute_error_fraction),
             percent(score.bias_fraction), coverage < 0 ? "" : percent(coverage), short_number(score.spread, 3)});
}

// Fits a framework's speed to tables of measured runs.
ExitCode fit_tables(const Flags& flags) {
  std::vector<std::unique_ptr<CsvTable>> tables;
  std::vector<const CsvTable*> pointers;
  for (const std::string& path : flags.get<std::vector<std::string>>("table")) {
    tables.emplace_back(new CsvTable(CsvTable::load(path)));
    pointers.push_back(tables.back().get());
  }
  FrameworkFitOptions options;
  options.frameworks = words(flags, "framework");
  options.devices = words(flags, "device");
  options.parameters = words(flags, "fit");
  options.least_mfu = flags.get<double>("least-mfu");
  options.num_folds = flags.get<int64_t>("folds");
  options.start = flags.get("start");
  options.by_device = flags.get<bool>("by-device");
  if (options.parameters.empty()) throw ConfigError("calibrate: --table needs --fit, the parameters to fit");
  const FrameworkFit fit = fit_framework(pointers, options);
  const nlohmann::json json = to_json(fit);
  write_file_atomically(flags.get("out"), json.dump(1) + "\n");
  if (flags.json()) {
    std::cout << json.dump(1) << '\n';
    return ExitCode::kDone;
  }
  constexpr double kNone = -1;
  Table errors{.header = {"step time of", "rows", "mean", "median", "worst", "bias", "inside 90 % interval", "spread"},
               .rows = {}};
  print_score("rows before the fit", fit.before, kNone, errors);
  print_score("rows that were fitted", fit.fitted, kNone, errors);
  print_score("models that were held out", fit.held_out, fit.held_out.interval_coverage, errors);
  for (const auto& [stratum, score] : fit.held_out_by_stratum) {
    print_score("  " + stratum, score, score.interval_coverage, errors);
  }
  print_table(errors, std::cout);
  std::cout << '\n';
  Table parameters{.header = {"parameter", "value", "folds from", "to", "start", "prior width", "low", "high"},
                   .rows = {}};
  for (const FittedParameter& p : fit.parameters) {
    parameters.add({p.name, short_number(p.value, 4), short_number(p.fold_low, 3), short_number(p.fold_high, 3),
                    short_number(p.initial, 4), short_number(p.prior_width, 3), short_number(p.low, 3),
                    short_number(p.high, 3)});
  }
  print_table(parameters, std::cout);
  std::cout << "\nSpread: what 90 % intervals need for a further model. Wrote " << flags.get("out") << '\n';
  return ExitCode::kDone;
}

}  // namespace

ExitCode calibrate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "calibrate";
  command.purpose = "refits the time and memory model to measured profiles";
  command.example = "mmoe calibrate --profile run/profile.json --out run/calibration.json";
  using Strings = std::vector<std::string>;
  command.options.add_options()("profile", po::value<Strings>()->multitoken()->composing(),
                                "profiles of one device: of mmoe profile, and RUN/profile_collectives.json of mmoe "
                                "train on several devices, to which links are fitted")(
      "table", po::value<Strings>()->multitoken()->composing(),
      "instead: tables of measured runs, to fit a framework's speed on a cluster")(
      "framework", po::value<Strings>()->multitoken()->composing(), "with --table: rows of these frameworks alone")(
      "device", po::value<Strings>()->multitoken()->composing(), "with --table: rows of these devices alone")(
      "fit", po::value<Strings>()->multitoken()->composing(),
      "with --table: parameters; a+b share a value, a@NAME+OTHER is for these frameworks or devices")(
      "start", po::value<std::string>()->default_value("defaults"),
      "with --table: values to start at and be drawn to: defaults, own (each row's framework file), or a framework")(
      "folds", po::value<int64_t>()->default_value(5),
      "with --table: parts that the models are dealt to, each held out")(
      "by-device", po::bool_switch(), "with --table: hold out a model on one device at a time, not on all")(
      "least-mfu", po::value<double>()->default_value(0), "with --table: leave out slower rows")(
      "out", po::value<std::string>()->required(), "calibration file to write");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  if (flags.has("table") == flags.has("profile")) {
    throw ConfigError("calibrate: give either --profile FILE... or --table FILE...");
  }
  if (flags.has("table")) return fit_tables(flags);

  std::vector<ProfiledJobs> profiles;
  for (const std::string& path : flags.get<std::vector<std::string>>("profile")) {
    profiles.push_back(load_profiled_jobs(path));
  }
  const FitResult result = fit_calibration(profiles, default_calibration(profiles.front().jobs.front().hardware.spec));
  save_calibration(result.calibration, flags.get("out"));
  for (const std::string& line : result.not_fitted) std::cerr << "calibrate: " << line << '\n';
  if (flags.json()) {
    std::cout << to_json(result).dump(1) << '\n';
  } else {
    print(result, std::cout);
    std::cout << "\nWrote " << flags.get("out") << '\n';
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
