// mmoe-bench: what every operation reaches of the machine's memory bandwidth and matrix products, beside LibTorch's
// way.
//   mmoe-bench [--threads N] [flags of Google Benchmark, e.g. --benchmark_filter=combine --benchmark_format=json]
//   mmoe-bench --profile FILE [--job JOB] [--repetitions N] [--threads N]

#include <benchmark/benchmark.h>

#include <chrono>
#include <iostream>
#include <string>

#include "profiles/store/profile.h"
#include "sim/cli/program.h"
#include "sim/config/enum_names.h"
#include "train/bench/kernel_benchmarks.h"
#include "train/bench/layer_operations.h"
#include "train/cli/threads.h"
#include "train/model/transformer.h"
#include "train/ops/parallel.h"
#include "train/profiling/counting_allocator.h"
#include "train/profiling/machine_peaks.h"

namespace mmoe::bench {
namespace {

// The layer of `size` as a job.
Job layer_job(const LayerSize& s, Precision precision) {
  const nlohmann::json json = {{"model",
                                {{"hidden_size", s.hidden_size},
                                 {"num_layers", 1},
                                 {"num_heads", s.num_heads},
                                 {"num_kv_heads", s.num_kv_heads},
                                 {"head_dim", s.head_dim},
                                 {"vocab_size", s.vocab_size},
                                 {"num_experts", s.num_experts},
                                 {"expert_hidden_size", s.expert_hidden_size}}},
                               {"hardware", {{"device", "cpu"}}},
                               {"training",
                                {{"seq_len", s.seq_len},
                                 {"micro_batch_size", s.num_tokens / s.seq_len},
                                 {"global_batch_size", s.num_tokens / s.seq_len},
                                 {"precision", name_of(precision)}}},
                               {"elastic", {{"k_min", 1}, {"k_max", s.top_k}}}};
  return parse_job(json, "mmoe-bench's layer in " + name_of(precision), ".");
}

// Rates of one way of doing a thing, and the shares of the peaks that they are.
void time(const KernelBenchmark& kernel, const std::function<void()>& run, const MachinePeaks& peaks,
          FlopsPerSecond matmul_rate, benchmark::State& state) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) run();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double seconds = elapsed.count() / static_cast<double>(state.iterations());
  state.counters["GB/s"] = kernel.bytes / seconds / 1e9;
  state.counters["of_stream"] = kernel.bytes / seconds / peaks.stream_bandwidth.value;
  if (kernel.flops == 0) return;
  state.counters["GFLOP/s"] = kernel.flops / seconds / 1e9;
  state.counters["of_mm"] = kernel.flops / seconds / matmul_rate.value;
}

void run_kernels() {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const std::string name = name_of(precision);
    const MachinePeaks peaks = measure_machine_peaks(layer_job({}, precision), c10::kCPU);
    const FlopsPerSecond matmul_rate = peaks.matmul_rate.at(name);
    benchmark::AddCustomContext("stream_gb_per_s_" + name, std::to_string(peaks.stream_bandwidth.value / 1e9));
    benchmark::AddCustomContext("mm_gflop_per_s_" + name, std::to_string(matmul_rate.value / 1e9));
    for (const KernelBenchmark& kernel : kernel_benchmarks(compute_type(precision), {})) {
      for (const bool aten : {false, true}) {
        benchmark::RegisterBenchmark(
            (kernel.name + "/" + name + (aten ? "/aten" : "")).c_str(),
            [=](benchmark::State& state) { time(kernel, aten ? kernel.aten : kernel.run, peaks, matmul_rate, state); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

ExitCode run_layers(const Flags& flags) {
  const int repetitions = flags.get<int>("repetitions");
  if (repetitions < 1 || repetitions > 1000) {
    throw ConfigError("--repetitions " + std::to_string(repetitions) + " is out of range; give 1 to 1000");
  }
  std::vector<Job> jobs;
  if (flags.has("job")) {
    jobs.push_back(flags.job());
  } else {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) jobs.push_back(layer_job({}, precision));
  }
  const LayerProfiles profiles = profile_layers(jobs, repetitions);
  save_profile(profiles.kernels, flags.get("profile"));
  if (flags.json()) {
    std::cout << to_json(profiles.kernels).dump(2) << '\n';
  } else {
    print_layers(profiles, jobs, std::cout);
  }
  return ExitCode::kDone;
}

ExitCode run(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "bench";
  command.purpose =
      "times every operation beside the machine's peaks and LibTorch's way; also Google Benchmark's flags";
  command.example = "mmoe-bench --profile layer.json";
  command.options.add_options()("profile", po::value<std::string>()->value_name("FILE"),
                                "time the trainer's operations on a layer instead, and write them as a profile that "
                                "`mmoe calibrate` reads")(
      "job", po::value<std::string>(),
      "with --profile: the job whose operations are timed (default: one MoE layer of "
      "hidden size 768 with 64 experts of 256, in fp32 and in bf16)")(
      "repetitions", po::value<int>()->default_value(5),
      "with --profile: timed steps at every k, after two to warm up");
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  if (flags.has("profile")) return run_layers(flags);
  if (flags.has("job")) throw ConfigError("--job goes with --profile FILE; add it, or leave --job out");
  run_kernels();
  return ExitCode::kDone;
}

}  // namespace
}  // namespace mmoe::bench

int main(int argc, char** argv) {
  mmoe::install_counting_allocator();
  mmoe::install_kernel_runtime();
  benchmark::Initialize(&argc, argv);  // takes its own flags out
  return static_cast<int>(mmoe::guarded([&] { return mmoe::bench::run({argv + 1, argv + argc}); }));
}
