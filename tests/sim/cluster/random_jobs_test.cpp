// What must hold for any valid job: random models (dense, MoE, latent attention), layouts, sharding, recomputation.

#include <gtest/gtest.h>

#include <random>

#include "sim/cluster/memory_model.h"
#include "sim/cluster/step_time.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/plan/cluster_plan.h"
#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

constexpr int kJobs = 150;

class RandomJobs : public testing::TestWithParam<int> {
 protected:
  int64_t one_of(const std::vector<int64_t>& values) { return values[random_() % values.size()]; }

  nlohmann::json draw() {
    static const std::vector<const char*> models = {"llama3-8b", "mixtral-8x7b", "olmoe-1b-7b", "deepseek-v2-lite",
                                                    "qwen3-30b-a3b"};
    static const std::vector<nlohmann::json> recomputes = {"none", "full", {"attention"}, {"moe"}, {"mlp"}};
    static const std::vector<const char*> offloads = {"none", "none", "optimizer", "activations"};
    const int64_t pipeline = one_of({1, 2, 4});
    nlohmann::json json = example_cluster_json();
    json["model"] = models[random_() % models.size()];
    json["hardware"]["num_devices"] = 64;
    json["parallelism"] = {{"tensor", one_of({1, 2, 4})},
                           {"context", one_of({1, 2, 4})},
                           {"context_kind", one_of({0, 1}) == 0 ? "ring" : "alltoall"},
                           {"pipeline", pipeline},
                           {"expert", one_of({1, 2, 4, 8})},
                           {"expert_tensor", one_of({1, 2})},
                           {"sequence", one_of({0, 1}) == 1},
                           {"zero_stage", one_of({0, 1, 2, 3})},
                           {"zero_group", one_of({0, 0, 2, 4})}};
    const int64_t schedule = pipeline == 1 ? 0 : one_of({0, 1, 2, 3});  // 1F1B, interleaved, ZB-H1, ZB-V
    if (schedule == 1 || schedule == 3) json["parallelism"]["virtual_pipeline"] = 2;
    if (schedule >= 2) json["parallelism"]["schedule"] = "zero_bubble";
    json["training"] = {{"framework", "megatron_core"},
                        {"seq_len", one_of({2048, 4096, 8192})},
                        {"micro_batch_size", one_of({1, 2})},
                        {"global_batch_size", 2048},
                        {"recompute", recomputes[random_() % recomputes.size()]},
                        {"recompute_num_layers", one_of({0, 1, 2, 4})},
                        {"overlap", one_of({0, 1}) == 1},
                        {"offload", offloads[random_() % offloads.size()]}};
    json["elastic"] = {{"k_min", 2}, {"k_max", 2}, {"sampling", "fixed"}};
    return json;
  }

  // The first valid one of a seed.
  nlohmann::json valid() {
    for (;;) {
      nlohmann::json json = draw();
      try {
        parse_job(json, "job.json", "/");
        return json;
      } catch (const ConfigError&) {  // expert parallelism of a dense model, ...
      }
    }
  }

  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
};

double peak(const Job& job) {
  double highest = 0;
  for (const RankMemory& rank : cluster_memory(job, framework_of(job), 2)) {
    highest = std::max(highest, rank.peak_allocated.value);
  }
  return highest;
}

TEST_P(RandomJobs, PartsAddUpToThePeakAndNoneIsNegative) {
  const Job job = parse_job(valid(), "job.json", "/");
  for (const RankMemory& rank : cluster_memory(job, framework_of(job), 2)) {
    const double parts[] = {rank.held.weights.value,    rank.held.gradients.value, rank.held.optimizer.value,
                            rank.held.workspaces.value, rank.held.buffers.value,   rank.activations.value,
                            rank.logits.value,          rank.transient.value};
    double sum = 0;
    for (const double part : parts) {
      EXPECT_GE(part, 0);
      sum += part;
    }
    EXPECT_NEAR(rank.peak_allocated.value, sum, 1e-12 * sum);  // 8 roundings
    EXPECT_GE(rank.peak_reserved, rank.peak_allocated);
    EXPECT_LE(rank.static_bytes, rank.peak_allocated);
  }
}

// As many micro-batches as before, so that the schedule stays the same.
TEST_P(RandomJobs, MemoryNeverFallsWhenTheMicroBatchGrows) {
  nlohmann::json json = valid();
  double before = 0;
  for (int size = 1; size <= 8; size *= 2) {
    json["training"]["micro_batch_size"] = size;
    json["training"]["global_batch_size"] = 2048 * size;
    const double now = peak(parse_job(json, "job.json", "/"));
    EXPECT_GE(now, before) << json.dump();
    before = now;
  }
}

// Whatever splits them: the routed experts of all ranks together are those of the model.
TEST_P(RandomJobs, ExpertsOfAllRanksAreThoseOfTheModel) {
  const Job job = parse_job(valid(), "job.json", "/");
  const Framework framework = framework_of(job);
  double experts = 0;
  for (const auto& chunks : pipeline_stages(job, framework)) experts += rank_weights(job, framework, chunks).expert;
  experts *= static_cast<double>(job.parallelism.expert * job.parallelism.expert_tensor);
  double whole = parameter_counts(job.model).experts;
  if (job.model.num_mtp_layers > 0)
    whole *= 1 + static_cast<double>(job.model.num_mtp_layers) / static_cast<double>(job.model.num_moe_layers());
  EXPECT_NEAR(experts, whole, 1e-12 * whole);
}

// The closed forms that a search uses against the schedule as it is played.
TEST_P(RandomJobs, FastPathAndFullSimulationAgree) {
  const Job job = parse_job(valid(), "job.json", "/");
  const Framework framework = framework_of(job);
  const ClusterPlan full = simulate_cluster(job, framework);
  EXPECT_NEAR(cluster_step_time(job, framework, 2).step() / full.time.step.mean(), 1, 0.01);
  double highest = 0;
  for (const RankReport& rank : full.ranks) highest = std::max(highest, rank.worst.peak_allocated.value);
  EXPECT_NEAR(peak(job) / highest, 1, 0.01);
  const PipelineShape shape = pipeline_shape(job);
  const StepModel model(job, framework, 2);
  const auto chunks = model.stages(pipeline_stages(job, framework)).chunks;
  const PipelinePasses passes = pipeline_passes(shape);
  const double played = simulate_pipeline(passes, pass_seconds(passes, chunks), model.transfers()).total.value;
  EXPECT_NEAR(pipeline_seconds(shape, chunks, model.transfers()).value / played, 1, 0.01);
  EXPECT_LE(least_step_seconds(shape, chunks, model.transfers()).value, played * (1 + 1e-9));
}

// Stages that are all alike and transfers for nothing: the bubble formulas of Narayanan et al. and Qi et al.
TEST_P(RandomJobs, EqualStagesFollowTheBubbleFormulas) {
  const Job job = parse_job(valid(), "job.json", "/");
  const PipelineShape shape = pipeline_shape(job);
  if (shape.is_v_shaped()) GTEST_SKIP() << "ZB-V has no closed form";
  const ChunkWork work = StepModel(job, framework_of(job), 2).work({job.model.num_layers - 1, 1, false, false});
  ChunkSeconds chunk = work.device;
  chunk.backward_weight = std::min({chunk.backward_weight, chunk.forward, chunk.backward_input});  // where it holds
  const auto v = static_cast<double>(shape.virtual_pipeline);
  const ChunkSeconds rank{chunk.forward * v, chunk.backward_input * v, chunk.backward_weight * v};
  const std::vector<ChunkSeconds> chunks(static_cast<std::size_t>(shape.num_stages()), chunk);
  const PipelinePasses passes = pipeline_passes(shape);
  const double played = simulate_pipeline(passes, pass_seconds(passes, chunks), {}).total.value;
  EXPECT_NEAR(equal_stages_seconds(shape, rank).value / played, 1, 1e-9);
}

INSTANTIATE_TEST_SUITE_P(, RandomJobs, testing::Range(1, kJobs + 1));

}  // namespace
}  // namespace mmoe
