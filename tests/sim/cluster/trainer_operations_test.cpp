#include "sim/cluster/trainer_operations.h"

#include <gtest/gtest.h>

#include "sim/cluster/step_time.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/throughput/step_time.h"

namespace mmoe {
namespace {

constexpr auto kModel =
    R"({"model": {"hidden_size": 64, "num_layers": 4, "num_dense_layers": 1, "dense_hidden_size": 96,
    "num_heads": 4, "num_kv_heads": 2, "vocab_size": 256, "num_experts": 8, "expert_hidden_size": 32,
    "shared_expert_hidden_size": 64}, "hardware": {"device": "cpu"}, "parallelism": {"zero_stage": 0},
    "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 8, "precision": "bf16"},
    "elastic": {"k_min": 1, "k_max": 4}})";

Job job_on(int num_devices, const nlohmann::json& parallelism = {{"zero_stage", 0}}) {
  nlohmann::json job = nlohmann::json::parse(kModel);
  job["hardware"]["num_devices"] = num_devices;
  job["parallelism"] = parallelism;
  return parse_job(job, "job.json", "");
}

Framework with_operations(const Job& job) {
  Framework framework = load_framework("mmoe", job.hardware.spec, "test");
  framework.operations = rank_parameters(default_calibration(job.hardware.spec), job.hardware, job.training.precision);
  return framework;
}

// One rank that holds everything takes what the model of one device says: both add up the same operations.
TEST(TrainerOperations, OnOneDeviceAreThoseOfTheDevice) {
  for (const char* recompute : {"none", "attention", "full"}) {
    nlohmann::json json = nlohmann::json::parse(kModel);
    json["training"]["recompute"] = recompute;
    const Job job = parse_job(json, "job.json", "");
    const Framework framework = with_operations(job);
    const StepTimeModel device(job, default_calibration(job.hardware.spec));
    for (const int k : {1, 3}) {
      const double expected =
          device
              .step_seconds(std::vector(static_cast<size_t>(job.num_micro_batches()),
                                        std::vector<int>(static_cast<size_t>(job.model.num_moe_layers()), k)))
              .value;
      EXPECT_NEAR(cluster_step_time(job, framework, k).step(), expected, 1e-12 * expected) << recompute << " k=" << k;
    }
  }
}

TEST(TrainerOperations, BetweenTwoKIsInProportion) {
  const Job job = job_on(1);
  const TrainerOperations operations(job, *with_operations(job).operations);
  const auto seconds = [&](double k) { return operations.moe_layer(k, 1).step_total(); };
  EXPECT_NEAR(seconds(2.25), 0.75 * seconds(2) + 0.25 * seconds(3), 1e-12 * seconds(3));
}

TEST(TrainerOperations, RanksOnOneCpuShareIt) {
  const RooflineParameters one = *with_operations(job_on(1)).operations, two = *with_operations(job_on(2)).operations;
  EXPECT_EQ(two.matmul_peak, one.matmul_peak / 2);
  EXPECT_EQ(two.bandwidth, one.bandwidth / 2);
  EXPECT_EQ(two.call_overhead, one.call_overhead);
}

// Half of the experts, each with the rows of both ranks: as many FLOPs, fewer calls and weights.
TEST(TrainerOperations, ExpertParallelRanksDoTheSameProductsOnFewerWeights) {
  const Job together = job_on(2), apart = job_on(2, {{"zero_stage", 0}, {"expert", 2}});
  const RooflineParameters parameters = *with_operations(together).operations;
  const auto products = [&](const Job& job, double rows_factor) {
    const LayerSeconds layer = TrainerOperations(job, parameters).moe_layer(4, rows_factor);
    const auto cause = static_cast<size_t>(TimeCause::kExperts);
    return layer.forward[cause] + layer.backward[cause];
  };
  EXPECT_LT(products(apart, 1), products(together, 1));
  EXPECT_GT(products(apart, 1), products(together, 1) / 2);
  EXPECT_GT(products(apart, 1.5), products(apart, 1));  // the busiest rank
}

// What tensor parallel ranks divide is divided; the rest of a dense layer runs on their own tokens.
TEST(TrainerOperations, TensorParallelRanksShareALayer) {
  const Job whole = job_on(2), split = job_on(2, {{"zero_stage", 0}, {"tensor", 2}, {"sequence", true}});
  RooflineParameters parameters = *with_operations(whole).operations;
  parameters.call_overhead = parameters.gemm_call_overhead = parameters.grouped_gemm_call_overhead = 0;
  parameters.gemm_half_rows = parameters.gemm_half_columns = parameters.gemm_half_inner = 0;
  parameters.cache_bandwidth_ratio = 1;
  const auto seconds = [&](const Job& job, TimeCause cause) {
    const LayerSeconds layer = TrainerOperations(job, parameters).dense_layer();
    return layer.forward[static_cast<size_t>(cause)] + layer.backward[static_cast<size_t>(cause)];
  };
  EXPECT_NEAR(seconds(split, TimeCause::kAttention), seconds(whole, TimeCause::kAttention) / 2,
              1e-12 * seconds(whole, TimeCause::kAttention));
  EXPECT_LT(seconds(split, TimeCause::kProducts), seconds(whole, TimeCause::kProducts));
  EXPECT_LT(seconds(split, TimeCause::kElementwise), seconds(whole, TimeCause::kElementwise));
}

TEST(TrainerOperations, OwnersOfHalfTheWeightsUpdateInLessTime) {
  const Job job = job_on(1);
  const TrainerOperations operations(job, *with_operations(job).operations);
  const double all = parameter_counts(job.model).total();
  EXPECT_LT(operations.update(all / 2), operations.update(all));
}

double all_to_alls(const LayerTimes& layers, const Job& job, const std::vector<double>& bytes) {
  const GroupPlacement group =
      place(rank_groups(job.parallelism, job.hardware.num_devices).expert, layers.network().domains);
  double sum = 0;
  for (const double one : bytes) sum += all_to_all(layers.network(), group, Bytes{one}).value;
  return sum;
}

// Every call over the framework's links, as the trainer makes it: counts, rows, routing weights, rows back.
TEST(TrainerOperations, StandBesideTheTrainersOwnTransfers) {
  const Job job = job_on(2, {{"zero_stage", 0}, {"expert", 2}});
  const Framework ours = with_operations(job);
  Framework theirs = ours;
  theirs.operations.reset();
  const LayerTimes layers(job, ours);
  const LayerSeconds a = layers.moe_layer(2), b = LayerTimes(job, theirs).moe_layer(2);
  const auto expert = static_cast<size_t>(TimeCause::kExpert), products = static_cast<size_t>(TimeCause::kProducts);
  const double pairs = 2 * 64 * 2, rows = pairs * 64 * 2, weights = pairs * 4;  // two experts a token; bf16 rows
  const double forward = all_to_alls(layers, job, {8 * 8, rows, weights, rows});
  EXPECT_NEAR(a.forward[expert], forward, 1e-12 * forward);
  EXPECT_NEAR(a.backward[expert], all_to_alls(layers, job, {rows, rows, weights}), 1e-12 * forward);
  EXPECT_NE(a.forward[products], b.forward[products]);
  EXPECT_EQ(a.host, 0);
}

// What is sent otherwise than our trainer can is the framework's.
TEST(TrainerOperations, LeaveTransfersOfLayoutsThatAreNotTrained) {
  const Job job = job_on(2, {{"zero_stage", 0}, {"tensor", 2}});  // without sequence parallelism
  const Framework ours = with_operations(job);
  Framework theirs = ours;
  theirs.operations.reset();
  const auto tensor = static_cast<size_t>(TimeCause::kTensor);
  const double sent = LayerTimes(job, ours).moe_layer(2).forward[tensor];
  EXPECT_GT(sent, 0);
  EXPECT_EQ(sent, LayerTimes(job, theirs).moe_layer(2).forward[tensor]);
}

}  // namespace
}  // namespace mmoe
