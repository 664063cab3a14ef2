#include "sim/cli/sweep.h"

#include "sim/cli/calibration_flag.h"
#include "sim/cli/plan_json.h"
#include "sim/config/job_key.h"
#include "sim/plan/simulate.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

// A number in full precision for CSV; empty for null.
std::string exact(const nlohmann::json& value) { return value.is_null() ? "" : value.dump(); }

std::vector<std::string> screen_cells(const nlohmann::json& plan) {
  const nlohmann::json& days = plan["run"]["days"];
  return {plan["fit"]["verdict"] == "fits"      ? "yes"
          : plan["fit"]["verdict"] == "at_risk" ? "at risk"
                                                : "no",
          in_gib(plan["memory"]["peak_allocated_bytes"]),
          in_gib(plan["fit"]["limit_bytes"]),
          significant(plan["throughput"]["step_seconds"], 4),
          significant(plan["throughput"]["tokens_per_second_per_device"], 4),
          percent(plan["throughput"]["model_flops_utilization"]),
          days.is_number() ? significant(days, 3) : ""};
}

std::vector<std::string> csv_cells(const nlohmann::json& plan) {
  return {plan["fit"]["verdict"],
          exact(plan["memory"]["peak_allocated_bytes"]),
          exact(plan["fit"]["limit_bytes"]),
          exact(plan["throughput"]["step_seconds"]),
          exact(plan["throughput"]["tokens_per_second_per_device"]),
          exact(plan["throughput"]["model_flops_utilization"]),
          exact(plan["run"]["days"])};
}

}  // namespace

SweepAxis parse_sweep(const std::string& text) {
  const std::size_t equals = text.find('=');
  SweepAxis axis{.key = text.substr(0, equals), .values = {}};
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    throw ConfigError("--sweep " + text +
                      " names no key and values; write it like --sweep parallelism.pipeline=4,8,16");
  }
  if (find_job_key(axis.key) == nullptr) {
    const std::string guess = nearest(axis.key, job_keys());
    throw ConfigError("--sweep " + text + ": " + axis.key + " is no key of the job file" +
                      (guess.empty() ? "" : "; did you mean " + guess + "?"));
  }
  for (std::size_t begin = equals + 1; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end == begin) throw ConfigError("--sweep " + text + " holds an empty value; write it like KEY=4,8,16");
    axis.values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return axis;
}

std::vector<SweepPoint> run_sweep(const Flags& flags, const std::vector<SweepAxis>& axes) {
  std::vector<SweepPoint> points(1);
  for (const SweepAxis& axis : axes) {
    std::vector<SweepPoint> longer;
    for (const SweepPoint& point : points) {
      for (const std::string& value : axis.values) {
        longer.push_back(point);
        longer.back().overrides.emplace_back(axis.key, value);
      }
    }
    points = std::move(longer);
  }
  for (SweepPoint& point : points) {
    Overrides overrides = flags.overrides;
    overrides.insert(overrides.end(), point.overrides.begin(), point.overrides.end());
    try {
      const Job job = load_job(flags.get("job"), overrides);
      point.plan = plan_json(flags, job);
    } catch (const ConfigError& error) {
      point.error = error.what();
    }
  }
  return points;
}

Table sweep_table(const std::vector<SweepPoint>& points, bool for_screen) {
  Table table;
  for (const auto& [key, value] : points.front().overrides) table.header.push_back(key);
  const std::size_t num_keys = table.header.size();
  const std::vector<std::string> names =
      for_screen
          ? std::vector<std::string>{"fits", "peak GiB", "usable GiB", "step s", "tokens/s/device", "MFU", "days", ""}
          : std::vector<std::string>{"verdict",
                                     "peak_allocated_bytes",
                                     "limit_bytes",
                                     "step_seconds",
                                     "tokens_per_second_per_device",
                                     "model_flops_utilization",
                                     "days",
                                     "error"};
  table.header.insert(table.header.end(), names.begin(), names.end());
  for (const SweepPoint& point : points) {
    std::vector<std::string> row;
    for (const auto& [key, value] : point.overrides) row.push_back(value);
    if (point.error.empty()) {
      const std::vector<std::string> cells = for_screen ? screen_cells(point.plan) : csv_cells(point.plan);
      row.insert(row.end(), cells.begin(), cells.end());
    }
    row.resize(num_keys + names.size());
    row.back() = point.error;
    table.add(row);
  }
  return table;
}

}  // namespace mmoe
