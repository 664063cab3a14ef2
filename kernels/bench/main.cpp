// mmoe-bench: bytes per second of every operation's CPU version, beside a copy of memory measured in the same run.
//   mmoe-bench [--threads N] [flags of Google Benchmark, e.g. --benchmark_filter=combine --benchmark_format=json]

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <string>
#include <thread>

#include "kernels/bench/operations.h"
#include "kernels/bench/pool.h"
#include "kernels/parallel/parallel.h"

namespace mmoe::kernels::bench {
namespace {

Pool* pool = nullptr;

void pooled_parallel_for(int64_t begin, int64_t end, int64_t grain, void* context,
                         void (*body)(void* context, int64_t begin, int64_t end)) {
  const int64_t most = std::max<int64_t>(1, (end - begin) / grain);
  const int pieces = static_cast<int>(std::min<int64_t>(pool->num_threads(), most));
  pool->run(pieces,
            [&](int i, int n) { body(context, begin + (end - begin) * i / n, begin + (end - begin) * (i + 1) / n); });
}

constexpr size_t kCopySize = size_t{256} << 20;  // far beyond any cache

// Copies 256 MiB with all threads; reading and writing count once each.
double copy_bytes_per_second() {
  std::vector<char> from(kCopySize, 1), to(kCopySize, 2);
  double best = std::numeric_limits<double>::infinity();
  for (int repetition = 0; repetition < 5; ++repetition) {
    const auto start = std::chrono::steady_clock::now();
    parallel_for(0, static_cast<int64_t>(kCopySize), 4096, [&](int64_t begin, int64_t end) {
      std::memcpy(to.data() + begin, from.data() + begin, static_cast<size_t>(end - begin));
    });
    benchmark::DoNotOptimize(to.data());
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return 2 * static_cast<double>(kCopySize) / best;
}

// Repeats the operation; of_copy is its bytes per second as a fraction of the copy's.
void time(const Operation& operation, double copy_rate, benchmark::State& state) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) operation.run();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const double bytes = operation.bytes * static_cast<double>(state.iterations());
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  state.counters["of_copy"] = bytes / seconds.count() / copy_rate;
}

void register_operations(double copy_rate) {
  for (const Scalar scalar : {Scalar::kFloat32, Scalar::kBFloat16}) {
    const std::string type = scalar == Scalar::kFloat32 ? "/float32" : "/bfloat16";
    for (const Operation& operation : layer_operations(scalar, LayerSize{})) {
      benchmark::RegisterBenchmark(
          (operation.name + type).c_str(),
          [operation, copy_rate](benchmark::State& state) { time(operation, copy_rate, state); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace mmoe::kernels::bench

int main(int argc, char** argv) {
  using namespace mmoe::kernels;
  int num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") != 0) continue;
    char* end = nullptr;
    const long value = std::strtol(argv[i + 1], &end, 10);
    if (*end != '\0' || value < 1 || value > 4096) {
      std::cerr << "mmoe-bench: --threads " << argv[i + 1] << " is no number of threads; give 1 to 4096\n";
      return 2;
    }
    num_threads = static_cast<int>(value);
    std::copy(argv + i + 2, argv + argc, argv + i);
    argc -= 2;
    break;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bench::Pool pool(num_threads);
  bench::pool = &pool;
  set_parallel_for(bench::pooled_parallel_for);
  const double copy_rate = bench::copy_bytes_per_second();
  benchmark::AddCustomContext("threads", std::to_string(num_threads));
  benchmark::AddCustomContext("memory_copy_gb_per_s", std::to_string(copy_rate / 1e9));
  bench::register_operations(copy_rate);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
