// mmoe calibrate --profile FILE... --out FILE: refits the efficiency and overhead parameters to measured profiles.

#include <cstdio>
#include <iostream>

#include "sim/calibration/fit.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"

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

}  // namespace

ExitCode calibrate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "calibrate";
  command.purpose = "refits the time and memory model to measured profiles";
  command.example = "mmoe calibrate --profile run/profile.json --out run/calibration.json";
  command.options.add_options()("profile", po::value<std::vector<std::string>>()->required()->multitoken()->composing(),
                                "profiles that mmoe profile wrote, all of one device")(
      "out", po::value<std::string>()->required(), "calibration file to write");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;

  std::vector<ProfiledJobs> profiles;
  for (const std::string& path : flags.get<std::vector<std::string>>("profile")) {
    profiles.push_back(load_profiled_jobs(path));
  }
  const FitResult result = fit_calibration(profiles, default_calibration(profiles.front().jobs.front().hardware.spec));
  save_calibration(result.calibration, flags.get("out"));
  if (flags.json()) {
    std::cout << to_json(result).dump(1) << '\n';
  } else {
    print(result, std::cout);
    std::cout << "\nWrote " << flags.get("out") << '\n';
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
