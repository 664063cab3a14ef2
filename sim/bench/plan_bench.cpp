// mmoe-plan-bench: layouts evaluated a second, and complete searches of DeepSeek-V3's layouts.

#include <benchmark/benchmark.h>

#include "sim/search/layout_search.h"

namespace mmoe {
namespace {

Job open_job(int64_t devices) {
  return parse_job(
      {{"model", "deepseek-v3"},
       {"hardware", {{"cluster", "dgx-h100"}, {"num_devices", devices}}},
       {"training",
        {{"framework", "megatron_core"}, {"seq_len", 4096}, {"global_batch_size", 16384}, {"precision", "bf16"}}}},
      "bench", "/", {}, Layout::kOpen);
}

// Every layout that the search visits: memory of every stage, and where it fits the step time. With `limit` 0 all fit,
// so that both are worked out for each.
void search(benchmark::State& state) {
  Job job = open_job(state.range(0));
  if (state.range(2) == 0) job.hardware.usable_memory = gib(1e9);
  const Framework framework = load_framework(job.training.framework, job.hardware.spec, "bench");
  LayoutSearchOptions options;
  options.num_threads = static_cast<int>(state.range(1));
  int64_t evaluated = 0;
  for (auto _ : state) {
    const LayoutSearchResult result = search_layouts(job, framework, options);
    evaluated += result.evaluated;
    benchmark::DoNotOptimize(result.candidates.data());
  }
  state.counters["layouts"] = benchmark::Counter(static_cast<double>(evaluated), benchmark::Counter::kAvgIterations);
  state.counters["layouts_per_second"] =
      benchmark::Counter(static_cast<double>(evaluated), benchmark::Counter::kIsRate);
}
BENCHMARK(search)
    ->Name("search/deepseek-v3")
    ->ArgNames({"gpus", "threads", "limit"})
    ->Args({2048, 1, 0})
    ->Args({256, 1, 1})
    ->Args({2048, 1, 1})
    ->Args({2048, 2, 1})
    ->Args({16384, 1, 1})
    ->Args({16384, 2, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mmoe

BENCHMARK_MAIN();
