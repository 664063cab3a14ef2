#include "train/loop/run.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <system_error>

#include "profiles/store/atomic_file.h"
#include "sim/config/enum_names.h"
#include "sim/formulas/model_flops.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/throughput/step_time.h"
#include "sim/units/errors.h"
#include "sim/validation/rank_log_path.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/data/data_flag.h"
#include "train/loop/job_requirements.h"
#include "train/loop/metrics_log.h"
#include "train/loop/peak_guard.h"
#include "train/loop/routing_summary.h"
#include "train/loop/step_log.h"
#include "train/loop/tensorboard_log.h"
#include "train/loop/trainer.h"
#include "train/parallel/process_groups.h"
#include "train/profiling/collective_profile.h"

namespace mmoe {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

// Asks for a checkpoint and a clean end while it lives; a second SIGINT kills as usual.
class StopSignals {
 public:
  StopSignals() {
    stop_requested = 0;
    for (size_t i = 0; i < 3; ++i) {
      struct sigaction action = {};
      action.sa_handler = [](int) { stop_requested = 1; };
      action.sa_flags = SA_RESETHAND;
      sigaction(kSignals[i], &action, &old_[i]);
    }
  }
  ~StopSignals() {
    for (size_t i = 0; i < 3; ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1};
  struct sigaction old_[3];
};

// k of every global micro-batch and layer; whole numbers, as top_p alone has others.
std::vector<std::vector<int>> drawn_k(const StepResult& result) {
  std::vector<std::vector<int>> k;
  for (const std::vector<double>& layers : result.k_per_layer) k.emplace_back(layers.begin(), layers.end());
  return k;
}

// One line that is rewritten on a terminal, a plain line every ten seconds elsewhere.
class Progress {
 public:
  // The arguments must outlive this.
  Progress(const Job& job, const RunOptions& options)
      : job_(job), options_(options), total_(options.total_steps), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (terminal_ && shown_) std::fputc('\n', stderr);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const StepResult& result) {
    const auto now = std::chrono::steady_clock::now();
    const double interval = terminal_ ? 0.2 : 10;
    const bool last = result.step == total_;
    if (first_step_ == 0) first_step_ = result.step;
    if (!last && shown_ && std::chrono::duration<double>(now - last_shown_).count() < interval) return;
    shown_ = true;
    last_shown_ = now;
    const double k = mean_k(result).value_or(0);
    const auto steps_done = static_cast<double>(result.step - first_step_ + 1);
    const double per_step = std::chrono::duration<double>(now - start_).count() / steps_done;
    const Seconds left{per_step * static_cast<double>(total_ - result.step)};
    const TrainingConfig& training = job_.training;
    char text[256];
    std::snprintf(text, sizeof text, "step %ld/%ld  loss %.4f  k %.2f  %.0f tokens/s", static_cast<long>(result.step),
                  static_cast<long>(total_), result.loss, k,
                  static_cast<double>(training.global_batch_size * training.seq_len) / result.seconds);
    std::string line = text;
    if (options_.device_peak.value > 0) {
      const Flops flops = model_step_flops(job_.model, static_cast<double>(training.seq_len),
                                           static_cast<double>(training.global_batch_size),
                                           k * static_cast<double>(job_.model.num_moe_layers()));
      std::snprintf(text, sizeof text, "  MFU %.1f %%",
                    100 * model_flops_utilization(flops, Seconds{result.seconds}, options_.device_peak,
                                                  static_cast<double>(job_.hardware.num_devices)));
      line += text;
    }
    line += "  peak " + to_string(Bytes{static_cast<double>(result.peak_allocated_bytes)});
    const Bytes predicted = job_.hardware.num_devices == 1 ? options_.predicted_peak : predicted_peak(result);
    if (predicted.value > 0) line += " of " + to_string(predicted) + " predicted";
    line += "  left " + to_string(left);
    std::fprintf(stderr, "%s%s%s", terminal_ ? "\r\x1b[K" : "", line.c_str(), terminal_ ? "" : "\n");
  }

  // One line that stays.
  void show(const StepEvaluation& evaluation) {
    std::string line = "step " + std::to_string(evaluation.step) + "  loss on " +
                       (evaluation.data.empty() ? "" : evaluation.data + ", ") +
                       std::string(split_name(options_.evaluation.split)) + ":";
    for (const EvaluationAtK& at_k : evaluation.by_k) {
      char text[64];
      std::snprintf(text, sizeof text, "  k=%d %.4f", at_k.k, at_k.loss);
      line += text;
    }
    std::fprintf(stderr, "%s%s\n", terminal_ ? "\r\x1b[K" : "", line.c_str());
  }

 private:
  // Of several ranks: the largest at the step's own draws, with rows shared evenly; nothing for many ranks, which would
  // take long.
  Bytes predicted_peak(const StepResult& result) const {
    constexpr int64_t kMostRanks = 64;
    if (job_.hardware.num_devices > kMostRanks || job_.elastic.sampling == Sampling::kTopP) return Bytes{};
    return trainer_highest_peak(job_, drawn_k(result));
  }

  const Job& job_;
  const RunOptions& options_;
  int64_t total_, first_step_ = 0;
  bool terminal_, shown_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_shown_;
};

// What decides the tokens of a data set.
nlohmann::json data_identity(const DatasetInfo& info) {
  return {{"text_hash", info.text_hash}, {"tokenizer", info.tokenizer}, {"model_hash", info.model_hash},
          {"separator", info.separator}, {"seed", info.seed},           {"split_fractions", info.split_fractions}};
}

// One data set alone, or the list of a blend with its weights (0: as many samples as it has).
nlohmann::json data_identity(const DataBlend& data) {
  if (data.prefixes().size() == 1) return data_identity(data.dataset(0).info());
  nlohmann::json identity = nlohmann::json::array();
  for (size_t i = 0; i < data.prefixes().size(); ++i) {
    identity.push_back(data_identity(data.dataset(i).info()));
    identity.back()["weight"] = data.prefixes()[i].weight;
  }
  return identity;
}

// A resumed run must be the same run: everything that decides its numbers.
void check_same_run(const Job& job, const DataBlend& data, const std::filesystem::path& checkpoint) {
  const nlohmann::json now = to_json(job), then = to_json(checkpoint_job(checkpoint));
  for (const char* section : {"model", "training", "elastic"}) {
    for (const auto& [key, value] : now[section].items()) {
      if (then[section].contains(key) && then[section][key] == value) continue;
      throw ConfigError(job.where + ": " + section + "." + key + " differs from the run that " + checkpoint.string() +
                        " belongs to; resume with the run's own job.json, or start a new run with --init");
    }
  }
  if (read_checkpoint_state(checkpoint).value("data", nlohmann::json()) != data_identity(data)) {
    const bool blend = data.prefixes().size() > 1;
    throw ConfigError(
        "--data " + data.prefixes().front().prefix +
        (blend ? " and the others hold other tokens, or have other weights, than" : " holds other tokens than") +
        " the run that " + checkpoint.string() +
        " belongs to; resume with that run's data, or start a new run with --init");
  }
}

// One line a step: what this rank alone measured. `routed_pairs`, where experts are split over ranks: [own
// micro-batch][MoE layer] [received, gathered], the (token, expert) pairs that came to the rank's experts.
class RankLog {
 public:
  RankLog(const std::filesystem::path& run_folder, const ProcessGroups& groups, int64_t last_step)
      : groups_(groups), log_(file_of(run_folder, groups.rank), last_step) {}

  void write(const StepResult& result) {
    nlohmann::ordered_json line = {
        {"step", result.step},
        {"seconds", result.seconds},
        {"peak_allocated_bytes", result.peak_allocated_bytes_by_rank[static_cast<size_t>(groups_.rank)]}};
    for (const std::vector<RoutedPairs>& micro_batch : result.routed_pairs) {
      auto& layers = line["routed_pairs"].emplace_back(nlohmann::ordered_json::array());
      for (const RoutedPairs& routed : micro_batch)
        layers.push_back({std::llround(routed.received), std::llround(routed.gathered)});
    }
    for (const Communicator* group : groups_.connected()) {
      for (int i = 0; i < kNumCollectiveCalls; ++i) {
        const Traffic& traffic = group->traffic()[i];
        if (traffic.calls == 0) continue;
        line["traffic"][group->name()][name_of(static_cast<CollectiveCall>(i))] = {
            {"calls", traffic.calls}, {"bytes", traffic.bytes}, {"seconds", traffic.seconds}};
      }
      group->reset_traffic();
    }
    log_.write(line);
  }

 private:
  // Makes the folder.
  static std::filesystem::path file_of(const std::filesystem::path& run_folder, int64_t rank) {
    std::filesystem::path path = rank_log_path(run_folder.string(), rank);
    std::filesystem::create_directories(path.parent_path());
    return path;
  }

  const ProcessGroups& groups_;
  StepLog log_;
};

constexpr const char* kEarlierUpdates = "earlier_optimizer_updates";  // of a checkpoint's state

// Updates that made the moments of a checkpoint. Throws ConfigError where it has none.
int64_t updates_of(const nlohmann::json& state, const std::filesystem::path& checkpoint) {
  bool found = false;
  for (const auto& [file, bytes] : state.at("files").items()) found = found || file.starts_with("optimizer");
  if (!found) throw ConfigError(checkpoint.string() + ": holds no optimizer state; leave --init-optimizer out");
  return state.at("step").get<int64_t>() + state.value(kEarlierUpdates, int64_t{0});
}

// The data of a run and the checkpoint that it goes on from, checked.
struct RunInput {
  RunInput(const Job& job, const RunOptions& options)
      : data(options.data),
        batches(data.sources(Split::kTrain), sample_rules(job.training), job.training.seed),
        latest(latest_checkpoint(options.out)) {
    check_vocabulary(job, data.dataset(0), data.prefixes().front().prefix);
    if (latest && !options.resume) {
      throw ConfigError("--out " + options.out.string() + " already holds a run (" + latest->filename().string() +
                        "); continue it with --resume or choose another folder");
    }
    if (latest) check_same_run(job, data, *latest);
    if (latest) {
      const nlohmann::json state = read_checkpoint_state(*latest);
      done = state.at("step").get<int64_t>();
      earlier_updates = state.value(kEarlierUpdates, int64_t{0});
    } else if (options.initial_checkpoint) {
      const nlohmann::json state = read_checkpoint_state(*options.initial_checkpoint);
      if (options.initial_optimizer) earlier_updates = updates_of(state, *options.initial_checkpoint);
    }
    if (options.evaluation.interval > 0) evaluator.emplace(options.evaluation, job, data);
    check_not_past(options.recordings.trace, "--trace");
    check_not_past(options.recordings.memory_snapshot, "--memory-snapshot");
  }

  void check_not_past(const std::optional<StepRange>& steps, const std::string& flag) const {
    if (!steps || steps->first > done) return;
    throw ConfigError(flag + " " + std::to_string(steps->first) + ":" + std::to_string(steps->last) +
                      ": the run goes on behind step " + std::to_string(done) + "; name later steps");
  }

  DataBlend data;
  Batches batches;
  std::optional<std::filesystem::path> latest;
  int64_t done = 0;             // steps, at the latest checkpoint
  int64_t earlier_updates = 0;  // that made the optimizer's moments before this run began
  std::optional<StepEvaluator> evaluator;
};

// Checkpoints of all ranks: each writes its part, rank 0 makes the folder and gives it its name.
void save(const Job& job, const RunOptions& options, int64_t step, const nlohmann::json& extra, Trainer& trainer,
          RankBoard* board) {
  const ParameterStore& parameters = trainer.transformer().parameters();
  if (board == nullptr) {
    save_checkpoint(options.out, job, step, parameters, trainer.optimizer(), extra);
    return;
  }
  const std::filesystem::path folder = checkpoint_folder(options.out, step);
  std::optional<CheckpointWriter> writer;
  if (board->rank() == 0) writer.emplace(folder);
  board->meet();
  write_checkpoint_part(staging_folder(folder), parameters, trainer.optimizer(), trainer.gradient_sync().written(),
                        board->rank(), board->world_size());
  board->meet();
  if (writer) writer->commit(checkpoint_state(job, step, extra));
  board->meet();
}

std::string bounds_text(const std::optional<Budget>& budget) {
  if (!budget) return "none";
  std::string text = name_of(budget->kind);
  for (const int64_t bound : budget->sum_k) (text += ' ') += std::to_string(bound);
  return text;
}

// The guard's part of a run: warnings, and a new budget where it is asked for and needed. Every rank sees the same
// steps, and so comes to the same budget; one of them speaks.
class RunGuard {
 public:
  RunGuard(const RunOptions& options, int64_t first_step, bool speaks)
      : options_(*options.guard),
        guard_(options.predicted_peak, options_.memory_limit),
        first_step_(first_step),
        speaks_(speaks) {}

  void observe(const StepResult& result) {
    if (result.step == first_step_) return;
    const auto warning = guard_.observe(result.step, Bytes{static_cast<double>(result.peak_allocated_bytes)},
                                        options_.predicted_step_peak(drawn_k(result)));
    if (!warning || !speaks_) return;
    const char* advice = options_.retune ? "the budget is tuned anew at the next checkpoint"
                                         : "lower the budget or the micro-batch, or resume with --guard retune";
    std::fprintf(stderr, "guard: %s; %s\n", warning->c_str(), advice);
  }

  // Before the checkpoint of `step` is written.
  void retune(int64_t step, Job& job, Trainer& trainer) {
    if (!options_.retune || !guard_.passes_limit()) return;
    const auto retuned = options_.retune(guard_.ratio());
    const std::string text = retuned ? "from the next step on the budget is " + bounds_text(retuned->budget) +
                                           " (was " + bounds_text(job.elastic.budget) + ")"
                                     : "no budget keeps the limit any more; the run goes on as it is";
    if (speaks_) std::fprintf(stderr, "guard: step %ld: %s\n", static_cast<long>(step), text.c_str());
    if (!retuned) return;
    job.elastic.budget = retuned->budget;
    trainer.set_budget(retuned->budget);
    guard_.set_predicted_worst(retuned->predicted_peak);
  }

 private:
  const RunOptions::Guard& options_;
  PeakGuard guard_;
  int64_t first_step_;
  bool speaks_;
};

// The job of a run that goes on: with the budget to which a guard that may change it has come.
Job continued_job(Job job, const RunOptions& options) {
  if (!options.guard || !options.guard->retune) return job;
  const auto latest = latest_checkpoint(options.out);
  if (latest && options.resume) job.elastic.budget = checkpoint_job(*latest).elastic.budget;
  return job;
}

RunEnd run(const Job& given_job, const RunOptions& options, c10::Device device, const ProcessGroups& groups,
           RankBoard* board) {
  Job job = continued_job(given_job, options);
  const RunInput input(job, options);
  const bool first = groups.rank == 0;
  const int64_t done = input.done;
  if (board != nullptr) {
    const std::string theirs = board->from_first(std::to_string(done));
    if (theirs != std::to_string(done)) {
      throw ConfigError("--out " + options.out.string() + " holds step " + std::to_string(done) + " here and step " +
                        theirs + " for rank 0; name a folder that all hosts share");
    }
  }

  Trainer trainer(board != nullptr ? job : on_one_device(job), device, groups);
  ParameterStore& parameters = trainer.transformer().parameters();
  if (input.latest) {
    load_weights(*input.latest, parameters);
    load_optimizer(*input.latest, parameters, trainer.optimizer());
  } else if (options.initial_checkpoint) {
    load_weights(*options.initial_checkpoint, parameters);
    if (options.initial_optimizer) load_optimizer(*options.initial_checkpoint, parameters, trainer.optimizer());
  }
  trainer.optimizer().set_earlier_updates(input.earlier_updates);
  if (first) {
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    if (error) throw ConfigError("--out " + options.out.string() + " cannot be made: " + error.message());
    remove_unfinished_checkpoints(options.out);
    write_file_atomically((options.out / "job.json").string(), to_json(job).dump(2) + "\n");
    if (job.training.packing == Packing::kBestFit) {
      std::fprintf(stderr, "best_fit packing: %ld sequences an epoch, %.2f %% of the positions are padding\n",
                   static_cast<long>(input.batches.samples_per_epoch()), 100 * input.batches.padding_fraction());
    }
  }
  if (board != nullptr) board->meet();

  const int64_t tokens_per_step = job.training.global_batch_size * job.training.seq_len;
  nlohmann::json extra = {{"total_steps", options.total_steps}, {"data", data_identity(input.data)}};
  if (input.earlier_updates > 0) extra[kEarlierUpdates] = input.earlier_updates;
  std::optional<MetricsLog> metrics;
  std::optional<Progress> progress;
  std::optional<EvaluationLog> evaluations;
  std::optional<TensorBoardLog> tensorboard;
  if (first) {
    metrics.emplace(options.out, done);
    progress.emplace(job, options);
    if (input.evaluator || std::filesystem::exists(options.out / "evaluations.jsonl")) {
      evaluations.emplace(options.out, done);
    }
    if (options.tensorboard) tensorboard.emplace(options.out, done);
  }
  std::optional<RunGuard> guard;
  if (options.guard && (first || options.guard->retune)) guard.emplace(options, done + 1, first);
  std::optional<RankLog> rank_log;
  if (options.rank_logs) rank_log.emplace(options.out, groups, done);
  StepRecordings recordings(options.recordings, options.out, groups.rank, device);
  const StopSignals signals;
  for (int64_t step = done + 1; step <= options.total_steps; ++step) {
    if (stop_requested != 0) trainer.request_stop();
    trainer.measure_routing(options.moe_metrics_interval > 0 && step % options.moe_metrics_interval == 0);
    recordings.before(step);
    const StepResult result = trainer.run_step(step, options.total_steps, input.batches);
    if (metrics) metrics->write(result, tokens_per_step);
    if (tensorboard) tensorboard->write(result, tokens_per_step);
    if (progress) progress->show(result);
    if (rank_log) rank_log->write(result);
    const int64_t interval = job.training.checkpoint_interval;
    const bool last = step == options.total_steps;
    // One process need not tell others, and stops at once.
    const bool stop = result.stop_requested || (board == nullptr && stop_requested != 0);
    recordings.after(step, last || stop);
    if (options.evaluation.is_due(step, last)) {
      for (const StepEvaluation& evaluation : input.evaluator->evaluate(step, trainer.transformer(), groups.world)) {
        if (!first) continue;
        evaluations->write(evaluation, options.evaluation.split);
        if (tensorboard) tensorboard->write(evaluation);
        progress->show(evaluation);
      }
      for (const Communicator* group : groups.connected()) group->reset_traffic();  // not the next step's
    }
    if (guard) guard->observe(result);
    if (last || stop || (interval > 0 && step % interval == 0)) {
      if (guard && !last) guard->retune(step, job, trainer);
      save(job, options, step, extra, trainer, board);
    }
    if (last && board != nullptr) {
      const Profile profile = profile_collectives(job, groups, device);
      if (first) save_profile(profile, (options.out / "profile_collectives.json").string());
    }
    if (stop && !last) return RunEnd::kStopped;
  }
  return RunEnd::kFinished;
}

}  // namespace

void check_run(const Job& job, const RunOptions& options) {
  const RunInput input(continued_job(job, options), options);
}

RunEnd train_run(const Job& job, const RunOptions& options) {
  return run(job, options, training_device(job), no_groups(), nullptr);
}

RunEnd train_run(const Job& job, const RunOptions& options, c10::Device device, const ProcessGroups& groups,
                 RankBoard& board) {
  return run(job, options, device, groups, &board);
}

}  // namespace mmoe
