#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "sim/cli/calibration_flag.h"
#include "sim/elastic/budget_plan.h"
#include "sim/memory/step_memory.h"
#include "sim/plan/cluster_budget.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/simulate.h"
#include "sim/plan/trainer_ranks.h"
#include "train/cli/commands.h"
#include "train/cli/dry_run.h"
#include "train/cli/threads.h"
#include "train/cli/watch_flags.h"
#include "train/loop/job_requirements.h"
#include "train/loop/run.h"
#include "train/parallel/launch_environment.h"
#include "train/parallel/launcher.h"
#include "train/profiling/counting_allocator.h"

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
  check_parallelism(job);
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

constexpr std::chrono::seconds kGrace(5);     // for ranks to end once one has failed
constexpr std::chrono::seconds kPatience(3);  // for what other ranks say of their end
constexpr const char* kWhatToDo = "; the last checkpoint is whole, and --resume continues from it";

// The job's devices are the ranks that were started, or will be.
void check_world(const Flags& flags, const Job& job, const std::optional<LaunchEnvironment>& launch) {
  const int64_t devices = job.hardware.num_devices;
  const std::string of_job = job.where + ": hardware.num_devices = " + std::to_string(devices);
  if (flags.has("nproc") && flags.get<int64_t>("nproc") != devices) {
    throw ConfigError("--nproc " + std::to_string(flags.get<int64_t>("nproc")) + " differs from " + of_job +
                      "; make them equal");
  }
  if (launch && launch->world_size != devices) {
    throw ConfigError("rank " + std::to_string(launch->rank) + ": " + std::to_string(launch->world_size) +
                      " ranks were started, which differs from " + of_job + "; start one rank for each device");
  }
  if (!launch && devices > 1 && !flags.has("nproc")) {
    throw ConfigError(of_job + ", but this is one process; start all ranks on this machine with --nproc " +
                      std::to_string(devices) + ", or on several with torchrun --no-python or srun");
  }
}

enum class GuardMode { kOff, kWarn, kRetune };

// --guard; off where no peaks are predicted: for top_p, and where `predicted_peak` is 0. Throws ConfigError.
GuardMode guard_mode(const Flags& flags, const Job& job, Bytes predicted_peak) {
  const std::string word = flags.get("guard");
  if (word != "off" && word != "warn" && word != "retune") {
    throw ConfigError("--guard " + word + " is no guard; use off, warn or retune");
  }
  const bool by_token = job.elastic.sampling == Sampling::kTopP;
  if (word == "retune" && (by_token || job.model.num_moe_layers() == 0)) {
    throw ConfigError(job.where +
                      ": --guard retune tunes the budget of draws of k, of which this job has none; use warn");
  }
  if (word == "retune" && predicted_peak.value == 0) {
    throw ConfigError(job.where +
                      ": --guard retune needs predicted peaks, and there are none for this job (of several " +
                      "devices there are on 2 to 64 CPUs); use off");
  }
  if (word == "off" || by_token || predicted_peak.value == 0) return GuardMode::kOff;
  return word == "warn" ? GuardMode::kWarn : GuardMode::kRetune;
}

// Of one device there is none.
Framework framework_of_ranks(const Flags& flags, const Job& job) {
  return job.hardware.num_devices > 1 ? framework_for(flags, job) : Framework();
}

Bytes worst_rank_peak(const Job& job, const Framework& framework) {
  const ClusterPlan plan = simulate_cluster(job, framework);
  return plan.ranks[static_cast<size_t>(plan.limiting_rank)].worst.peak_allocated;
}

// With the budget that `auto` stands for, tuned as `mmoe budget` tunes it: a function of the job and the calibration,
// so that every rank comes to the same one.
Job with_tuned_budget(const Job& job, const Calibration& calibration, const Framework& framework) {
  if (!job.elastic.budget_is_auto || job.hardware.num_devices == 1) return with_automatic_budget(job, calibration);
  const ClusterBudget plan = plan_cluster_budget(job, framework, {}, false);
  if (!plan.tuning.choice) {
    throw ConfigError(job.where + ": elastic.budget = auto: no budget fits: " + plan.tuning.reason);
  }
  return plan.job;
}

// The arguments must outlive the run.
RunOptions::Guard guard_of_ranks(const Job& job, const Framework& framework, GuardMode mode) {
  RunOptions::Guard guard{.memory_limit = job.hardware.usable_memory, .predicted_step_peak = {}, .retune = {}};
  guard.predicted_step_peak = [&job](const auto& k_per_layer) { return trainer_highest_peak(job, k_per_layer); };
  if (mode != GuardMode::kRetune) return guard;
  guard.retune = [&job, &framework](double ratio) -> std::optional<RunOptions::Guard::Retuned> {
    BudgetRequest request;
    request.memory_limit = job.hardware.usable_memory * (1 / ratio);
    const ClusterBudget plan = plan_cluster_budget(job, framework, request, false);
    if (!plan.tuning.choice || !plan.job.elastic.budget) return std::nullopt;
    return RunOptions::Guard::Retuned{*plan.job.elastic.budget, worst_rank_peak(plan.job, framework)};
  };
  return guard;
}

// The same of one device.
RunOptions::Guard run_guard(const Job& job, const Calibration& calibration, GuardMode mode) {
  RunOptions::Guard guard{.memory_limit = job.hardware.usable_memory, .predicted_step_peak = {}, .retune = {}};
  guard.predicted_step_peak = [&job, overhead = calibration.framework_overhead()](const auto& k_per_layer) {
    Bytes largest;
    for (const std::vector<int>& k : k_per_layer) largest = std::max(largest, step_peak(job, k).total);
    return largest + overhead;
  };
  if (mode != GuardMode::kRetune) return guard;
  guard.retune = [&job, &calibration](double ratio) -> std::optional<RunOptions::Guard::Retuned> {
    BudgetRequest request;
    request.memory_limit = job.hardware.usable_memory * (1 / ratio);
    const BudgetPlan plan = plan_budget(job, calibration, request);
    if (!plan.tuning.choice) return std::nullopt;
    return RunOptions::Guard::Retuned{*plan.job.elastic.budget,
                                      Bytes{simulate(plan.job, calibration).peak_allocated.max}};
  };
  return guard;
}

// For the progress line and the guard; nothing where the simulator knows too little of the device, and a peak of
// several devices where their ranks are predicted.
void add_predictions(const Job& job, const Calibration& calibration, const Framework& framework, RunOptions& options) {
  if (job.training.operations == OperationSet::kAten) {
    std::cerr << job.where << ": bytes and times of training.operations = aten are not predicted, nor guarded\n";
    return;
  }
  try {
    options.device_peak = device_peak(calibration, job.hardware.spec, job.training.precision);
    if (job.hardware.num_devices == 1) {
      options.predicted_peak = Bytes{simulate(job, calibration).peak_allocated.max};
    } else if (predicts_trainer_ranks(job)) {
      options.predicted_peak = worst_rank_peak(job, framework);
    }
  } catch (const ConfigError&) {
  }
}

void report_end(RunEnd end) {
  if (end == RunEnd::kStopped) std::cerr << "stopped by a signal; a checkpoint was written, --resume continues\n";
}

// This process's part of the run. What ends it is told to the other ranks.
void run_rank(const Job& job, const RunOptions& options, const LaunchEnvironment& launch,
              std::chrono::seconds timeout) {
  end_with_launcher();
  const std::string rank = "rank " + std::to_string(launch.rank) + ": ";
  const auto store = connect_store(launch, timeout);
  RankBoard board(store, launch.rank, launch.world_size);
  try {
    const c10::Device device = training_device(job, launch.local_rank);
    if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
    board.meet();  // ranks may start late
    const ProcessGroups groups = connect_groups(job, launch.rank, device, store, timeout);
    const RunEnd end = train_run(job, options, device, groups, board);
    if (launch.rank == 0) report_end(end);
  } catch (const RankLost& error) {
    throw RunFailure(rank + error.what() + ": " + board.what_happened(kPatience) + kWhatToDo);
  } catch (const ConfigError& error) {
    board.report_failure(error.what());
    throw ConfigError(rank + error.what());
  } catch (const c10::OutOfMemoryError& error) {
    board.report_failure("out of memory");
    throw RunFailure(rank + "out of memory; lower training.micro_batch_size or set training.recompute, then --resume");
  } catch (const std::exception& error) {
    const std::string text = error.what();
    board.report_failure(text.substr(0, text.find('\n')));
    throw RunFailure(rank + text + kWhatToDo);
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
      "data", po::value<std::vector<std::string>>()->composing()->value_name("[WEIGHT:]PREFIX"),
      "prefix of token files written by `mmoe data build`. Several, as in --data 0.7:web --data 0.3:books, are "
      "blended: "
      "each sample comes from the one that lags its weight most; without weights each counts as many samples as it "
      "has")("out", po::value<std::string>(),
             "run folder: metrics.jsonl, job.json, checkpoints/, of several devices profile_collectives.json")(
      "steps", po::value<int64_t>(), "optimiser steps of the whole run (default: from training.tokens)")(
      "seed", po::value<uint64_t>(), "overrides training.seed")(
      "nproc", po::value<int64_t>(), "ranks to start on this machine; must be hardware.num_devices")(
      "timeout", po::value<int64_t>()->default_value(20),
      "seconds after which a rank that does not answer is given up; more than the slowest part of a step takes")(
      "rank-logs", po::bool_switch(), "also write memory, time and traffic of every rank, RUN/ranks/rank_N.jsonl")(
      "replay-reserved", po::bool_switch(),
      "CPU: also write what a GPU's caching allocator would have reserved for the same requests")(
      "guard", po::value<std::string>()->default_value("warn"),
      "compares peaks with those predicted: warn when the worst draw would not fit, retune the budget then at the next "
      "checkpoint, or off")("resume", po::bool_switch(), "continue from the last checkpoint in --out, bit for bit")(
      "init", po::value<std::string>(), "start from the weights of this checkpoint folder")(
      "init-optimizer", po::bool_switch(), "with --init: from its optimizer state too, else that starts anew");
  add_dry_run_flags(command);
  add_watch_flags(command);
  add_threads(command);
  Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  if (flags.has("seed")) flags.overrides.emplace_back("training.seed", std::to_string(flags.get<uint64_t>("seed")));
  check_dry_run_flags(flags);
  const bool is_dry_run = flags.get<bool>("dry-run");
  for (const char* flag : {"data", "out"}) {
    if (is_dry_run || flags.has(flag)) continue;
    throw ConfigError(std::string("train: --") + flag + " is missing; see mmoe train --help");
  }
  Job job = flags.job();
  if (is_dry_run) {
    use_threads(flags);
    check_trainable(job);
    return dry_run_command(flags, with_tuned_budget(job, calibration_for(flags, job), framework_of_ranks(flags, job)));
  }
  std::optional<LaunchEnvironment> launch = launch_environment(std::getenv);
  const bool launches = flags.has("nproc") && std::getenv("RANK") == nullptr;  // a SLURM script may call us too
  if (launches) launch.reset();
  check_world(flags, job, launch);
  use_threads(flags, launch ? launch->local_world_size : 1);
  check_trainable(job);
  const Calibration calibration = calibration_for(flags, job);
  const Framework framework = framework_of_ranks(flags, job);
  job = with_tuned_budget(job, calibration, framework);
  RunOptions options;
  options.data = parse_data_flag(flags.get<std::vector<std::string>>("data"));
  options.out = flags.get("out");
  options.total_steps = steps_of_run(flags, job);
  options.resume = flags.get<bool>("resume");
  options.rank_logs = flags.get<bool>("rank-logs");
  if (flags.get<bool>("replay-reserved")) {
    if (!training_device(job).is_cpu()) {
      throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                        " reserves memory itself; leave --replay-reserved out");
    }
    replay_caching_allocator();
  }
  read_watch_flags(flags, job, options);
  add_predictions(job, calibration, framework, options);
  const GuardMode guard = guard_mode(flags, job, options.predicted_peak);
  if (guard != GuardMode::kOff) {
    options.guard =
        job.hardware.num_devices == 1 ? run_guard(job, calibration, guard) : guard_of_ranks(job, framework, guard);
  }
  if (flags.has("init")) options.initial_checkpoint = flags.get("init");
  options.initial_optimizer = flags.get<bool>("init-optimizer");
  if (options.initial_optimizer && !flags.has("init")) {
    throw ConfigError("--init-optimizer needs --init, which names the checkpoint");
  }
  const std::chrono::seconds timeout(flags.get<int64_t>("timeout"));
  if (timeout.count() < 1 || timeout.count() > 86400) {
    throw ConfigError("--timeout " + std::to_string(timeout.count()) + " is out of range; give 1 to 86400 seconds");
  }
  if (job.hardware.num_devices == 1) {
    report_end(train_run(job, options));
  } else if (launch) {
    run_rank(job, options, *launch, timeout);
  } else {
    training_device(job);
    check_run(job, options);
    std::vector<std::string> words = {"mmoe-train", "train"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    launch_ranks(words, job.hardware.num_devices, kGrace, kWhatToDo);
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
