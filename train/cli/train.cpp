#include "sim/cli/calibration_flag.h"
#include "sim/elastic/budget_plan.h"
#include "train/cli/commands.h"
#include "train/cli/threads.h"
#include "train/loop/run.h"

namespace mmoe {
namespace {

// --steps, or what training.tokens amounts to.
int64_t steps_of_run(const Flags& flags, const Job& job) {
  if (flags.has("steps")) {
    const auto steps = flags.get<int64_t>("steps");
    if (steps < 1) throw ConfigError("--steps " + std::to_string(steps) + " is no number of steps; give 1 or more");
    return steps;
  }
  const int64_t steps = job.training.num_steps();
  if (steps < 1) {
    throw ConfigError(job.where + ": training.tokens gives no whole step of " +
                      std::to_string(job.training.global_batch_size * job.training.seq_len) +
                      " tokens; raise it or give --steps N");
  }
  return steps;
}

// Refuses what the simulator knows and the trainer does not do, rather than training something else.
void check_trainable(const Job& job) {
  if (job.hardware.num_devices != 1) {
    throw ConfigError(job.where + ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) +
                      ", but this trainer runs on one device; set it to 1");
  }
  if (job.training.moe.dispatch != DispatchKind::kDropless) {
    throw ConfigError(job.where + ": training.moe.dispatch drops or pads tokens, which can be simulated but not " +
                      "trained; set it to dropless");
  }
  const Precision states = job.training.precision == Precision::kFp64 ? Precision::kFp64 : Precision::kFp32;
  if (job.training.optimizer_precision != states) {
    throw ConfigError(job.where + ": training.optimizer_precision differs from what the trainer keeps; set it to " +
                      (states == Precision::kFp64 ? "fp64" : "fp32"));
  }
}

}  // namespace

ExitCode train_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "train";
  command.purpose = "trains the job's model, each MoE layer with its own drawn number k of active experts";
  command.example = "mmoe train --job job.json --data run/tokens --out run --steps 1000";
  command.add_job();
  command.options.add_options()(
      "data", po::value<std::vector<std::string>>()->required()->composing()->value_name("[WEIGHT:]PREFIX"),
      "prefix of token files written by `mmoe data build`. Several, as in --data 0.7:web --data 0.3:books, are "
      "blended: "
      "each sample comes from the one that lags its weight most; without weights each counts as many samples as it "
      "has")("out", po::value<std::string>()->required(), "run folder: metrics.jsonl, job.json, checkpoints/")(
      "steps", po::value<int64_t>(), "optimiser steps of the whole run (default: from training.tokens)")(
      "seed", po::value<uint64_t>(), "overrides training.seed")(
      "nproc", po::value<int64_t>(), "processes to start on this machine; must be hardware.num_devices")(
      "resume", po::bool_switch(), "continue from the last checkpoint in --out, bit for bit")(
      "init", po::value<std::string>(), "start from the weights of this checkpoint folder");
  add_threads(command);
  Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  if (flags.has("seed")) flags.overrides.emplace_back("training.seed", std::to_string(flags.get<uint64_t>("seed")));
  use_threads(flags);
  Job job = flags.job();
  if (flags.has("nproc") && flags.get<int64_t>("nproc") != job.hardware.num_devices) {
    throw ConfigError("--nproc " + std::to_string(flags.get<int64_t>("nproc")) + " differs from " + job.where +
                      ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) + "; make them equal");
  }
  check_trainable(job);
  job = with_automatic_budget(job, calibration_for(flags, job));
  RunOptions options;
  options.data = parse_data_flag(flags.get<std::vector<std::string>>("data"));
  options.out = flags.get("out");
  options.total_steps = steps_of_run(flags, job);
  options.resume = flags.get<bool>("resume");
  if (flags.has("init")) options.initial_checkpoint = flags.get("init");
  if (train_run(job, options) == RunEnd::kStopped) {
    std::cerr << "stopped by a signal; a checkpoint was written, --resume continues\n";
    return ExitCode::kDone;
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
