// mmoe compare --job A --job B ...: jobs side by side.

#include <algorithm>
#include <set>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/plan_json.h"
#include "sim/cli/plan_tables.h"
#include "sim/cli/table.h"
#include "sim/plan/simulate.h"

namespace mmoe {
namespace {

using nlohmann::json;

constexpr int kDecimals = 3;  // of GiB

struct Compared {
  Job job;
  json resolved;  // keys of the job file, dotted
  json plan;
};

// {"a": {"b": 1}} as {"a.b": 1}; lists stay whole.
void flatten(const json& value, const std::string& path, json& flat) {
  if (!value.is_object()) {
    flat[path] = value;
    return;
  }
  for (const auto& [key, child] : value.items()) flatten(child, path.empty() ? key : path + "." + key, flat);
}

// Keys whose values differ, with a value a job (null: not there).
json differences(const std::vector<Compared>& jobs) {
  std::set<std::string> keys;
  for (const Compared& compared : jobs) {
    for (const auto& [key, value] : compared.resolved.items()) keys.insert(key);
  }
  json found = json::object();
  for (const std::string& key : keys) {
    json values = json::array();
    for (const Compared& compared : jobs) values.push_back(compared.resolved.value(key, json()));
    if (std::any_of(values.begin(), values.end(), [&](const json& value) { return value != values.front(); })) {
      found[key] = values;
    }
  }
  return found;
}

std::string cell(const json& value) {
  return value.is_null() ? "-" : value.is_string() ? value.get<std::string>() : value.dump();
}

void print_differences(const std::vector<Compared>& jobs, Table& table) {
  const json differing = differences(jobs);
  for (const auto& [key, values] : differing.items()) {
    std::vector<std::string> row = {key};
    for (const json& value : values) row.push_back(cell(value));
    table.add(row);
  }
}

template <class Text>
void add_row(Table& table, const std::vector<Compared>& jobs, const std::string& name, Text&& text) {
  std::vector<std::string> row = {name};
  for (const Compared& compared : jobs) row.push_back(text(compared.plan));
  table.add(row);
}

void print_memory(const std::vector<Compared>& jobs, Table& table) {
  std::vector<std::string> causes;
  for (const Compared& compared : jobs) {
    for (const auto& [cause, bytes] : memory_causes(compared.plan)) {
      if (std::find(causes.begin(), causes.end(), cause) == causes.end()) causes.push_back(cause);
    }
  }
  for (const std::string& cause : causes) {
    add_row(table, jobs, cause, [&](const json& plan) {
      for (const auto& [name, bytes] : memory_causes(plan)) {
        if (name == cause) return in_gib(bytes, kDecimals);
      }
      return std::string("-");
    });
  }
  add_row(table, jobs, "peak allocated",
          [](const json& plan) { return in_gib(plan["memory"]["peak_allocated_bytes"], kDecimals); });
  add_row(table, jobs, "usable", [](const json& plan) { return in_gib(plan["fit"]["limit_bytes"], kDecimals); });
}

void print_time(const std::vector<Compared>& jobs, Table& table) {
  add_row(table, jobs, "step, s", [](const json& plan) { return significant(plan["throughput"]["step_seconds"], 4); });
  add_row(table, jobs, "tokens/s per device",
          [](const json& plan) { return significant(plan["throughput"]["tokens_per_second_per_device"], 4); });
  add_row(table, jobs, "MFU", [](const json& plan) { return percent(plan["throughput"]["model_flops_utilization"]); });
  const auto of_run = [](const char* key) {
    return [key](const json& plan) { return plan["run"][key].is_number() ? significant(plan["run"][key], 3) : "-"; };
  };
  add_row(table, jobs, "days", of_run("days"));
  add_row(table, jobs, "device hours", of_run("device_hours"));
  add_row(table, jobs, "cost, $", of_run("cost"));
}

void print(const std::vector<Compared>& jobs, std::ostream& out) {
  Table table;
  const auto section = [&](const std::string& title) {
    table = Table{.header = {title}, .rows = {}};
    for (const Compared& compared : jobs) table.header.push_back(compared.job.where);
  };
  const auto finish = [&] {
    print_table(table, out);
    out << '\n';
  };
  section("what differs");
  print_differences(jobs, table);
  if (table.rows.empty()) {
    out << "The jobs are the same.\n\n";
  } else {
    finish();
  }
  section("memory, GiB");
  print_memory(jobs, table);
  finish();
  section("time");
  print_time(jobs, table);
  finish();
  for (const Compared& compared : jobs) out << compared.job.where << ": " << verdict_line(compared.plan) << '\n';
}

}  // namespace

ExitCode compare_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "compare";
  command.purpose = "simulates jobs and shows them side by side: what differs, memory, time, cost, fit";
  command.example = "mmoe compare --job a.json --job b.json";
  command.takes_job_keys = true;  // set in all of them
  command.options.add_options()("job",
                                po::value<std::vector<std::string>>()->required()->composing()->value_name("FILE"),
                                "a job file or the name of a ready job; give two or more");
  add_calibration(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  const auto& paths = flags.get<std::vector<std::string>>("job");
  if (paths.size() < 2) throw ConfigError("compare: give --job at least twice; one job alone is for mmoe simulate");

  std::vector<Compared> jobs;
  for (const std::string& path : paths) {
    Compared compared{.job = load_job(path, flags.overrides), .resolved = json::object(), .plan = {}};
    flatten(to_json(compared.job), "", compared.resolved);
    compared.plan = plan_json(flags, compared.job);
    jobs.push_back(std::move(compared));
  }
  if (flags.json()) {
    json list = json::array();
    for (const Compared& compared : jobs) {
      json entry = compared.plan;
      entry["job"] = compared.job.where;
      list.push_back(entry);
    }
    std::cout << json{{"differences", differences(jobs)}, {"jobs", list}}.dump(2) << '\n';
  } else {
    print(jobs, std::cout);
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
