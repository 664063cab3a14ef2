// mmoe-plan-bench: layouts evaluated a second, complete searches of DeepSeek-V3's layouts, and budgets tuned.

#include <benchmark/benchmark.h>

#include <cmath>

#include "sim/elastic/pipeline_budget.h"
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
// and both are worked out for each; of those that may be among the best the time again, with the exact schedule.
void search(benchmark::State& state) {
  Job job = open_job(state.range(0));
  if (state.range(2) == 0) job.hardware.usable_memory = gib(1e9);
  Framework framework = load_framework(job.training.framework, job.hardware.spec, "bench");
  if (state.range(3) == 1) framework.schedules.push_back(PipelineSchedule::kZeroBubble);
  LayoutSearchOptions options;
  options.num_threads = static_cast<int>(state.range(1));
  options.times_all = state.range(2) == 0;
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
    ->ArgNames({"gpus", "threads", "limit", "zero_bubble"})
    ->Args({2048, 1, 0, 0})
    ->Args({256, 1, 1, 0})
    ->Args({2048, 1, 1, 0})
    ->Args({2048, 2, 1, 0})
    ->Args({16384, 1, 1, 0})
    ->Args({16384, 2, 1, 0})
    ->Args({2048, 2, 1, 1})
    ->Args({16384, 2, 1, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// The bounds of 61 layers over 16 stages of a 1F1B pipeline, k in 1..8: choice and Pareto front. Bytes rise with k in a
// straight line, or ever less.
void tune(benchmark::State& state) {
  ElasticConfig config;
  config.k_max = 8;
  const bool curved = state.range(0) != 0;
  std::vector<double> added;
  for (int k = 0; k < 8; ++k) added.push_back(5e7 * (curved ? 7 * std::sqrt(k / 7.0) : k));
  std::vector<PipelineStage> stages;
  for (int64_t rank = 0; rank < 16; ++rank) {
    stages.push_back({.at_least = 2e10, .added = added, .chunks = {{rank < 13 ? 4 : 3, 16 - rank}}});
  }
  PipelineGoal goal;
  goal.saving = 0.1;
  goal.steps = 10000;
  goal.replicas = 8;
  goal.num_micro_batches = 64;
  for (auto _ : state) benchmark::DoNotOptimize(tune_pipeline_budget(config, stages, goal).choice->kl_divergence);
}
BENCHMARK(tune)
    ->Name("tune_budget/61_layers_16_stages")
    ->ArgName("curved")
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mmoe

BENCHMARK_MAIN();
