// mmoe simulate --job JOB: memory, step time and cost of one training job, without running it.

#include "sim/plan/simulate.h"

#include "profiles/store/atomic_file.h"
#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/megatron_flag.h"
#include "sim/cli/plan_json.h"
#include "sim/cli/plan_tables.h"
#include "sim/cli/sweep.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/memory_timeline_json.h"
#include "sim/plan/operation_trace.h"
#include "sim/plan/schedule_trace.h"
#include "sim/plan/trainer_ranks.h"

namespace mmoe {
namespace {

ExitCode sweep(const Flags& flags) {
  std::vector<SweepAxis> axes;
  for (const std::string& text : flags.get<std::vector<std::string>>("sweep")) axes.push_back(parse_sweep(text));
  const std::vector<SweepPoint> points = run_sweep(flags, axes);
  bool any = false;
  for (const SweepPoint& point : points) any = any || point.error.empty();
  if (!any) throw ConfigError("--sweep: the job is impossible at every point; at the first: " + points.front().error);
  if (flags.json()) {
    nlohmann::json list = nlohmann::json::array();
    for (const SweepPoint& point : points) {
      nlohmann::json entry{{"overrides", nlohmann::json::object()}};
      for (const auto& [key, value] : point.overrides) entry["overrides"][key] = value;
      if (point.error.empty()) {
        entry["plan"] = point.plan;
      } else {
        entry["error"] = point.error;
      }
      list.push_back(entry);
    }
    std::cout << nlohmann::json{{"points", list}}.dump(2) << '\n';
  } else if (flags.get<bool>("csv")) {
    print_csv(sweep_table(points, false), std::cout);
  } else {
    print_table(sweep_table(points, true), std::cout);
  }
  return ExitCode::kDone;
}

// --trace-step. Throws ConfigError.
int64_t trace_step(const Flags& flags) {
  const auto step = flags.get<int64_t>("trace-step");
  if (step < 1) throw ConfigError("--trace-step " + std::to_string(step) + ": steps count from 1");
  return step;
}

// --trace and --timeline, where given.
void write_schedule(const Flags& flags, const Job& job) {
  if (!flags.has("trace") && !flags.has("timeline")) return;
  if (!is_cluster_job(job)) {
    if (flags.has("timeline")) throw ConfigError("--timeline is for jobs on several devices");
    const nlohmann::json trace = operation_trace(job, calibration_for(flags, job), trace_step(flags));
    return write_file_atomically(flags.get("trace"), trace.dump() + "\n");
  }
  const Framework framework = framework_for(flags, job);
  if (flags.has("trace")) write_file_atomically(flags.get("trace"), schedule_trace(job, framework).dump() + "\n");
  if (flags.has("timeline")) {
    write_file_atomically(flags.get("timeline"), memory_timeline_json(job, framework).dump() + "\n");
  }
}

}  // namespace

ExitCode simulate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "simulate";
  command.purpose = "predicts memory, step time and cost of one training job, without running it";
  command.example = "mmoe simulate --job olmoe-elastic-h100 --sweep training.micro_batch_size=1,2,4";
  command.add_job();
  add_calibration(command);
  command.options.add_options()("sweep", po::value<std::vector<std::string>>()->composing()->value_name("KEY=A,B,C"),
                                "a table over values of one key; given again: over all combinations")(
      "csv", po::bool_switch(), "print the table of --sweep as CSV, in bytes and seconds")(
      "trace", po::value<std::string>()->value_name("FILE"),
      "write the predicted schedule, or of one device every operation of a step, for chrome://tracing or Perfetto")(
      "trace-step", po::value<int64_t>()->default_value(1),
      "the step whose draws --trace takes (one device), and trainer_step of --json: every rank's peak and what all "
      "hand to each collective (this trainer's jobs on 2 to 64 CPU devices)")(
      "timeline", po::value<std::string>()->value_name("FILE"),
      "write every rank's memory over the step, by cause (several devices); analysis/memory_timeline_figure.py draws "
      "it")("print-config", po::bool_switch(), "print the job as it was understood, as a job file, and stop");
  add_megatron(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  check_megatron(flags);
  if (flags.get<bool>("csv") && (!flags.has("sweep") || flags.json())) {
    throw ConfigError("simulate: --csv is for the table of --sweep, and not with --json");
  }
  if (flags.has("sweep") && !flags.get<bool>("print-config")) return sweep(flags);

  const Job job = flags.job();
  if (flags.get<bool>("print-config")) {
    std::cout << to_json(job).dump(2) << '\n';
    return ExitCode::kDone;
  }
  nlohmann::json plan = plan_json(flags, job);
  if (flags.json() && predicts_trainer_ranks(job)) plan["trainer_step"] = trainer_step_json(job, trace_step(flags));
  write_schedule(flags, job);
  if (flags.has("megatron-script")) plan["megatron"] = write_megatron(flags, job);
  if (flags.json()) {
    std::cout << plan.dump(2) << '\n';
  } else {
    print_plan(plan, job, std::cout);
  }
  if (plan["fits"] == true) return ExitCode::kDone;
  std::cout.flush();
  std::cerr << job.where << ": " << verdict_line(plan) << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
