#include "train/cli/watch_flags.h"

#include <charconv>

#include "train/cli/k_flags.h"

namespace mmoe {
namespace {

// "10:12", or "10" alone; empty where the flag is not given.
std::optional<StepRange> step_range(const Flags& flags, const std::string& name, int64_t total_steps) {
  if (!flags.has(name)) return std::nullopt;
  const std::string& text = flags.get(name);
  const std::string_view first = std::string_view(text).substr(0, text.find(':'));
  const std::string_view last =
      text.find(':') == std::string::npos ? first : std::string_view(text).substr(first.size() + 1);
  const auto parse = [](std::string_view digits) -> int64_t {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() ? value : 0;
  };
  const StepRange range{parse(first), parse(last)};
  if (range.first < 1 || range.last < range.first || range.last > total_steps) {
    throw ConfigError("--" + name + " " + text + " names no steps of this run; give FIRST:LAST, from 1 to " +
                      std::to_string(total_steps));
  }
  return range;
}

int64_t count_of(const Flags& flags, const std::string& name) {
  const auto value = flags.get<int64_t>(name);
  if (value < 0) throw ConfigError("--" + name + " " + std::to_string(value) + " is below 0; give 0 or more");
  return value;
}

}  // namespace

void add_watch_flags(CommandLine& command) {
  command.options.add_options()("tensorboard", po::bool_switch(),
                                "also write TensorBoard event files, RUN/tensorboard")(
      "moe-metrics", po::value<int64_t>()->default_value(0),
      "every so many steps (0: never), add `moe` to the line of metrics.jsonl: by MoE layer k, tokens per expert, "
      "router entropy, dead experts")(
      "eval-interval", po::value<int64_t>()->default_value(0),
      "evaluate every so many steps, and after the last (0: never); RUN/evaluations.jsonl")(
      "eval-k", po::value<std::string>(),
      "numbers of active experts to evaluate, e.g. 1,2,6 (default: k_min to k_max)")(
      "eval-split", po::value<std::string>()->default_value("valid"), "train, valid, search or test")(
      "eval-tokens", po::value<int64_t>()->default_value(1 << 20),
      "evaluate the first tokens of the split only, at each k (0: all)")(
      "trace", po::value<std::string>()->value_name("FIRST:LAST"),
      "trace these steps with LibTorch's profiler, RUN/trace_rankR.json, for Perfetto")(
      "memory-snapshot", po::value<std::string>()->value_name("FIRST:LAST"),
      "record every allocation of these steps, RUN/memory_rankR.pickle, for pytorch.org/memory_viz (CUDA only)")(
      "nvtx", po::bool_switch(), "name all work in NVTX ranges, for Nsight Systems (CUDA only)");
}

void read_watch_flags(const Flags& flags, const Job& job, RunOptions& options) {
  options.tensorboard = flags.get<bool>("tensorboard");
  options.moe_metrics_interval = count_of(flags, "moe-metrics");
  if (options.moe_metrics_interval > 0 && job.model.num_moe_layers() == 0) {
    throw ConfigError(job.where + ": the model is dense; leave --moe-metrics out");
  }
  options.evaluation.interval = count_of(flags, "eval-interval");
  options.evaluation.ks = evaluated_ks(flags, job, "eval-k");
  options.evaluation.split = parse_split(flags.get("eval-split"), "--eval-split");
  options.evaluation.tokens = count_of(flags, "eval-tokens");
  options.recordings.trace = step_range(flags, "trace", options.total_steps);
  options.recordings.memory_snapshot = step_range(flags, "memory-snapshot", options.total_steps);
  options.recordings.nvtx = flags.get<bool>("nvtx");
  for (const char* name : {"memory-snapshot", "nvtx"}) {
    const bool given = name == std::string("nvtx") ? options.recordings.nvtx : flags.has(name);
    if (given && job.hardware.spec.is_cpu) {
      throw ConfigError("--" + std::string(name) + " is for CUDA, but " + job.where +
                        ": hardware.device = cpu; leave it out (--trace works on both)");
    }
  }
  if (options.recordings.nvtx && options.recordings.trace) {
    throw ConfigError("--nvtx and --trace exclude each other: LibTorch has one profiler at a time; give one of them");
  }
}

}  // namespace mmoe
