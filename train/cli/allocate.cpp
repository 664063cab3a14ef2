#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "profiles/store/atomic_file.h"
#include "sim/cli/calibration_flag.h"
#include "sim/throughput/step_time.h"
#include "train/cli/allocation_report.h"
#include "train/cli/commands.h"
#include "train/cli/k_flags.h"
#include "train/cli/threads.h"
#include "train/data/dataset.h"
#include "train/loop/allocation.h"
#include "train/loop/evaluate.h"
#include "train/loop/inference_model.h"
#include "train/loop/job_requirements.h"

namespace mmoe {
namespace {

// One line that is rewritten on a terminal, a plain line every five seconds elsewhere.
class Progress {
 public:
  ~Progress() {
    if (terminal_ && shown_) std::fputs("\r\x1b[K", stderr);
  }

  void show(const std::string& phase, int done, int total) {
    const auto now = std::chrono::steady_clock::now();
    const bool due = std::chrono::duration<double>(now - last_).count() >= (terminal_ ? 0.1 : 5);
    if (shown_ && !due && phase == phase_) return;
    shown_ = true;
    last_ = now;
    phase_ = phase;
    const Seconds left{std::chrono::duration<double>(now - start_).count() / done * (total - done)};
    std::fprintf(stderr, "%sallocate: %s, evaluation %d of at most %d, at most %s left%s", terminal_ ? "\r\x1b[K" : "",
                 phase.c_str(), done, total, to_string(left).c_str(), terminal_ ? "" : "\n");
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0, shown_ = false;
  std::string phase_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_;
};

// The one target that was given, with its range checked as far as that needs no model.
AllocationTarget target_of(const Flags& flags) {
  using Kind = AllocationTarget::Kind;
  const std::pair<const char*, Kind> kinds[] = {
      {"mean-k", Kind::kMeanK}, {"max-loss-increase", Kind::kMaxLossIncrease}, {"cost-fraction", Kind::kCostFraction}};
  std::vector<AllocationTarget> given;
  for (const auto& [flag, kind] : kinds) {
    if (flags.has(flag)) given.push_back({kind, flags.get<double>(flag)});
  }
  if (given.size() != 1) {
    throw ConfigError(std::string("allocate: ") +
                      (given.empty() ? "no budget is given" : "more than one budget is given") +
                      "; give exactly one of --mean-k, --max-loss-increase and --cost-fraction");
  }
  const double value = given[0].value;
  if (given[0].kind == Kind::kMaxLossIncrease && !(value >= 0 && std::isfinite(value))) {
    throw ConfigError("--max-loss-increase " + std::to_string(value) +
                      " must be 0 or more: nats per token above the loss at uniform k_max");
  }
  if (!std::isfinite(value)) {
    throw ConfigError("--mean-k or --cost-fraction " + std::to_string(value) + " is no budget; give a finite number");
  }
  return given[0];
}

// Finds a bad --out before the work and not after it.
void check_output(const std::string& out) {
  const std::filesystem::path path(out), folder = path.has_parent_path() ? path.parent_path() : ".";
  if (std::filesystem::is_directory(path)) throw ConfigError("--out " + out + " is a folder; give a file");
  if (!std::filesystem::is_directory(folder) || access(folder.c_str(), W_OK) != 0) {
    throw ConfigError("--out " + out + ": the folder " + folder.string() +
                      " does not exist or is not writable; make it or name another");
  }
}

// --k-min and --k-max, by default the job's.
std::pair<int, int> k_range(const Flags& flags, const Job& job) {
  const int k_min = flags.has("k-min") ? flags.get<int>("k-min") : job.elastic.k_min;
  const int k_max = flags.has("k-max") ? flags.get<int>("k-max") : job.elastic.k_max;
  if (k_min < 1 || k_max < k_min || k_max > job.model.num_experts) {
    throw ConfigError("k from " + std::to_string(k_min) + " to " + std::to_string(k_max) +
                      " is no range; it must hold that 1 <= --k-min <= --k-max <= model.num_experts = " +
                      std::to_string(job.model.num_experts));
  }
  return {k_min, k_max};
}

void check_model(const Job& job) {
  if (job.model.num_moe_layers() == 0) {
    throw ConfigError(job.where +
                      ": model.num_experts = 0: a dense model has no k to choose; give a checkpoint of an MoE");
  }
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where +
                      ": elastic.sampling = top_p lets each token choose its k, so no k per layer has a cost; "
                      "give a checkpoint that was trained with another sampling");
  }
}

}  // namespace

ExitCode allocate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "allocate";
  command.purpose = "k per layer for a compute budget, verified on a split the search never saw";
  command.example =
      "mmoe allocate --checkpoint run/checkpoints/step_1000 --data run/tokens --mean-k 3.5 --out allocation.json";
  command.options.add_options()("checkpoint", po::value<std::string>()->required(), "checkpoint folder")(
      "data", po::value<std::string>()->required(), "prefix of the token files")(
      "out", po::value<std::string>()->required(), "file to write the allocation to")(
      "mean-k", po::value<double>(), "budget: the cost of uniform k of this mean")(
      "max-loss-increase", po::value<double>(), "budget: nats per token above the loss at uniform k_max")(
      "cost-fraction", po::value<double>(), "budget: fraction of the cost at uniform k_max")(
      "cost", po::value<std::string>()->default_value("flops"), "flops, or seconds as --calibration predicts them")(
      "front", po::bool_switch(), "also list the best allocations for all other budgets")(
      "k-min", po::value<int>(), "smallest k of a layer (default: the job's)")(
      "k-max", po::value<int>(), "largest k of a layer (default: the job's)")(
      "max-sequences", po::value<int64_t>()->default_value(0), "use the first windows of each split only (0: all)");
  add_calibration(command);
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  AllocationOptions options;
  options.target = target_of(flags);
  options.front = flags.get<bool>("front");
  options.max_windows = flags.get<int64_t>("max-sequences");
  if (options.max_windows < 0) throw ConfigError("--max-sequences must be 0 (all) or more");
  const std::string kind = flags.get("cost");
  if (kind != "flops" && kind != "seconds") throw ConfigError("--cost " + kind + " is unknown; give flops or seconds");
  if (kind == "seconds" && !flags.has("calibration")) {
    throw ConfigError("--cost seconds needs --calibration FILE; make one with mmoe profile and mmoe calibrate");
  }
  check_output(flags.get("out"));

  InferenceModel checkpoint(flags.get("checkpoint"));
  const Job& job = checkpoint.job();
  check_model(job);
  const auto [k_min, k_max] = k_range(flags, job);
  const Dataset data(flags.get("data"));
  check_vocabulary(job, data, flags.get("data"));
  const TokenFile& test_tokens = data.tokens(Split::kTest);
  const int64_t seq_len = job.training.seq_len;
  const Documents documents = sample_rules(job.training).documents;
  const EvaluationWindows search(data.tokens(Split::kSearch), data.tokenizer(), seq_len, documents);
  const EvaluationWindows test(test_tokens, data.tokenizer(), seq_len, documents);
  options.native_k = static_cast<int>(job.model.top_k > 0 ? job.model.top_k : job.elastic.k_max);
  options.batch = evaluation_batch(checkpoint.job().training.seq_len);
  options.test_windows_per_document = static_cast<double>(test_tokens.num_tokens()) /
                                      static_cast<double>(test_tokens.num_documents()) / static_cast<double>(seq_len);
  options.where = test_tokens.path();

  std::unique_ptr<StepTimeModel> seconds;
  if (flags.has("calibration")) seconds = std::make_unique<StepTimeModel>(job, calibration_for(flags, job));
  const AllocationCost costs = kind == "seconds" ? seconds_cost(*seconds, k_min, k_max)
                                                 : flops_cost(job.model, static_cast<double>(seq_len), k_min, k_max);
  Allocation allocation;
  {
    Progress progress;
    options.progress = [&](const std::string& phase, int done, int total) { progress.show(phase, done, total); };
    allocation = allocate(checkpoint.transformer(), search, test, costs, options);
  }
  const nlohmann::ordered_json report = allocation_json(allocation, costs, options, seconds.get());
  write_file_atomically(flags.get("out"), report.dump(2) + "\n");
  if (flags.json()) {
    std::cout << report.dump(2) << '\n';
  } else {
    print_allocation(report, std::cout);
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
