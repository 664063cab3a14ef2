// mmoe validate --table FILE.csv or --run RUN: predicted against measured.

#include "sim/validation/validate.h"

#include <filesystem>
#include <fstream>
#include <iostream>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"
#include "sim/validation/own_run.h"

namespace mmoe {
namespace {

void print_scores(const ValidationReport& fitted, const ValidationReport& raw, std::ostream& out) {
  const auto raw_strata = summary_by_stratum(raw);
  Table table{
      .header = {"stratum", "quantity", "runs", "mean", "median", "worst", "bias", "in interval", "spread", "raw mean"},
      .rows = {}};
  for (const auto& [stratum, scores] : summary_by_stratum(fitted)) {
    for (const auto& [quantity, score] : scores) {
      if (quantity == kFitsQuantity) {
        table.add({stratum, quantity, std::to_string(score.count),
                   percent(score.balanced_accuracy) + (score.both_outcomes ? "" : ", one outcome only"), "", "", "", "",
                   "", ""});
        continue;
      }
      table.add({stratum, quantity, std::to_string(score.count), percent(score.mean_absolute_error_fraction),
                 percent(score.median_absolute_error_fraction), percent(score.max_absolute_error_fraction),
                 percent(score.bias_fraction), percent(score.interval_coverage), significant(score.spread, 3),
                 percent(raw_strata.at(stratum).at(quantity).mean_absolute_error_fraction)});
    }
  }
  print_table(table, out);
  out << "Errors are absolute, of predicted over measured; of \"fits\" the balanced accuracy. Raw: the same with "
         "values\n"
         "that were fitted to nothing. Spread: what these errors ask of 90 % intervals for a further model.\n";
}

void print_unmodelled(const ValidationReport& report, std::ostream& out) {
  if (report.unmodelled.empty()) return;
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const UnmodelledRow& row : report.unmodelled) by_reason[row.reason].push_back(row.id);
  out << "\nNot modelled\n";
  for (const auto& [reason, ids] : by_reason) {
    out << "  " << reason << ": " << ids.size() << " (" << ids.front() << (ids.size() > 1 ? ", ..." : "") << ")\n";
  }
}

Table rows_table(const ValidationReport& report) {
  Table table{.header = {"id", "stratum", "quantity", "measured", "predicted", "low", "high", "error_fraction"},
              .rows = {}};
  if (!report.rows.empty()) {
    for (const auto& [key, unused] : report.rows.front().job) table.header.push_back(key);
  }
  for (const ScoredRow& row : report.rows) {
    std::vector<std::string> cells = {row.id,
                                      row.stratum,
                                      row.quantity,
                                      significant(row.measured, 8),
                                      significant(row.predicted, 8),
                                      significant(row.low, 8),
                                      significant(row.high, 8),
                                      row.quantity == kFitsQuantity ? "" : significant(row.error_fraction(), 3)};
    for (const auto& [key, value] : row.job) cells.push_back(value);
    table.add(cells);
  }
  return table;
}

// "step_seconds=0.05" against the score of that quantity over all rows.
bool passes(const std::string& bound, const ValidationReport& report) {
  const std::size_t equal = bound.find('=');
  const std::string quantity = bound.substr(0, equal);
  char* end = nullptr;
  const std::string number = equal == std::string::npos ? "" : bound.substr(equal + 1);
  const double limit = std::strtod(number.c_str(), &end);
  const auto scores = summary(report);
  if (number.empty() || *end != '\0' || !scores.contains(quantity)) {
    std::vector<std::string> known;
    for (const auto& [name, unused] : scores) known.push_back(name);
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    throw ConfigError("--bound " + bound + " must be QUANTITY=FRACTION; this table has " + names);
  }
  const QuantityScore& score = scores.at(quantity);
  const bool good =
      quantity == kFitsQuantity ? score.balanced_accuracy >= limit : score.mean_absolute_error_fraction <= limit;
  if (!good) std::cerr << "bound passed: " << bound << '\n';
  return good;
}

// With fitted values, and with values that were fitted to nothing.
struct Reports {
  ValidationReport fitted, raw;
};

// --calibration, else the run's own; empty where there is neither.
std::string run_calibration_path(const Flags& flags) {
  const std::string own = flags.get("run") + "/calibration.json";
  return !flags.has("calibration") && std::filesystem::exists(own) ? own : calibration_path(flags);
}

ExitCode answer(const Flags& flags, const std::string& where, const char* what, const Reports& reports) {
  const ValidationReport& report = reports.fitted;
  if (flags.has("csv")) {
    std::ofstream file(flags.get("csv"));
    print_csv(rows_table(report), file);
    if (!file.flush()) throw ConfigError("--csv " + flags.get("csv") + ": cannot be written; does its folder exist?");
  }
  if (flags.json()) {
    nlohmann::json json = to_json(report);
    const nlohmann::json raw = to_json(reports.raw);
    json["raw"] = {{"summary", raw["summary"]}, {"summary_by_stratum", raw["summary_by_stratum"]}};
    std::cout << json.dump(1) << '\n';
  } else {
    std::cout << where << ": " << report.num_runs << ' ' << what << ", " << percent(report.coverage())
              << " modelled\n\n";
    print_scores(report, reports.raw, std::cout);
    print_unmodelled(report, std::cout);
  }
  bool good = true;
  if (flags.has("bound")) {
    for (const std::string& bound : flags.get<std::vector<std::string>>("bound")) good = passes(bound, report) && good;
  }
  return good ? ExitCode::kDone : ExitCode::kAnswerIsNo;
}

}  // namespace

ExitCode validate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "validate";
  command.purpose = "compares predictions with a table of measured training runs, or with a run of our own";
  command.example = "mmoe validate --table runs.csv --bound step_seconds=0.08";
  command.options.add_options()("table", po::value<std::string>()->value_name("FILE"),
                                "CSV with the columns of profiles/measured/published")(
      "run", po::value<std::string>()->value_name("RUN"),
      "or a run folder of mmoe train: every step, for the k it drew; on several CPU ranks every rank's peak "
      "too, for the rows that came to its experts (--rank-logs)")(
      "calibration", po::value<std::string>()->value_name("FILE"),
      "with --table: framework file in place of the shipped ones; with --run: calibration.json (default: the run's "
      "own)")("bound", po::value<std::vector<std::string>>()->composing()->value_name("QUANTITY=FRACTION"),
              "exit 3 where the mean absolute error is larger (of fits: the balanced accuracy smaller)")(
      "csv", po::value<std::string>()->value_name("FILE"), "write every predicted row");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  if (flags.has("table") == flags.has("run"))
    throw ConfigError("mmoe validate: give --table FILE or --run RUN, one of them");
  if (flags.has("run")) {
    const std::string& run = flags.get("run");
    const Job job = own_run_job(run);
    if (job.hardware.num_devices > 1) {
      const std::string calibration = run_calibration_path(flags);
      const Reports reports = {validate_own_ranks(run, job, framework_for(calibration, job)),
                               validate_own_ranks(run, job, framework_for("", job))};
      return answer(flags, run, "steps", reports);
    }
    const Reports reports = {validate_own_run(run, job, calibration_for(run_calibration_path(flags), job)),
                             validate_own_run(run, job, default_calibration(job.hardware.spec))};
    return answer(flags, run, "steps", reports);
  }
  const CsvTable table = CsvTable::load(flags.get("table"));
  if (!table.has_column("id") || !table.has_column("framework")) {
    throw ConfigError(flags.get("table") + ": line 1 names no columns id and framework; see profiles/measured");
  }
  const std::string framework = flags.has("calibration") ? flags.get("calibration") : "";
  return answer(flags, table.where(), "runs",
                {validate_table(table, framework), validate_table(table, framework, Speed::kRaw)});
}

}  // namespace mmoe
