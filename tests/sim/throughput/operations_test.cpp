#include "sim/throughput/operations.h"

#include <gtest/gtest.h>

#include <map>

#include "sim/formulas/model_flops.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/memory/cpu_products.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

double flops_of(const std::vector<OperationCost>& costs, Phase phase) {
  double sum = 0;
  for (const OperationCost& cost : costs) sum += cost.phase == phase ? cost.flops : 0;
  return sum;
}

TEST(Operations, NamesGoBothWays) {
  for (int i = 0; i <= static_cast<int>(Operation::kOptimizer); ++i) {
    const auto operation = static_cast<Operation>(i);
    EXPECT_EQ(operation_named(operation_name(operation)), operation);
  }
  for (int i = 0; i <= static_cast<int>(Phase::kUpdate); ++i) {
    const auto phase = static_cast<Phase>(i);
    EXPECT_EQ(phase_named(phase_name(phase)), phase);
  }
  EXPECT_EQ(operation_name(Operation::kAttentionOutput), "attention_output");
  EXPECT_EQ(phase_name(Phase::kRecompute), "recompute");
  EXPECT_FALSE(operation_named("allreduce").has_value());
}

// In fp32 nothing is padded, so the operations' FLOPs are the model's: forward once, the head with both its gradients
// in the forward phase, the rest of the backward pass twice, and attention's scores once more in the backward pass.
TEST(Operations, FlopsEqualTheClosedForms) {
  Job job = example_job();
  job.model.num_dense_layers = 1;
  job.model.dense_hidden_size = 512;
  job.model.shared_expert_hidden_size = 128;
  const std::vector<int> draw = {1, 6, 3};
  const std::vector<OperationCost> costs = step_operations(job, draw);
  const double tokens = 1024, seq_len = 256, sequences = 4;
  const double model = forward_flops(job.model, seq_len, sequences).total(10).value;
  const double head = head_flops(job.model, tokens).value;
  const double attention = 4 * attention_flops(job.model, seq_len, sequences).value;
  // All are integers below 2^53; sums in another order differ by rounding only after chunked divisions.
  EXPECT_NEAR(flops_of(costs, Phase::kForward) / (model + 2 * head), 1, 1e-12);
  EXPECT_NEAR(flops_of(costs, Phase::kBackward) / (2 * (model - head) + attention / 2), 1, 1e-12);
  EXPECT_EQ(flops_of(costs, Phase::kRecompute), 0);
}

TEST(Operations, FullRecomputeRepeatsTheLayersForward) {
  Job job = example_job();
  job.training.recompute.full = true;
  const std::vector<OperationCost> costs = step_operations(job, {2, 2, 2, 2});
  const double head = head_flops(job.model, 1024).value;
  EXPECT_NEAR(flops_of(costs, Phase::kRecompute) / (flops_of(costs, Phase::kForward) - 3 * head), 1, 1e-12);
}

TEST(Operations, SelectiveRecomputeRepeatsItsBlock) {
  Job job = example_job();
  job.training.recompute.modules = {"moe"};
  std::map<Operation, int> pieces;
  for (const OperationCost& cost : layer_operations(job, 0, 3)) {
    if (cost.phase == Phase::kRecompute) ++pieces[cost.operation];
  }
  EXPECT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces.count(Operation::kNorm) + pieces.count(Operation::kRouter) + pieces.count(Operation::kExperts), 3u);
}

TEST(Operations, Bf16PadsExpertRowsWhereTheLibraryFormsProducts) {
  const CpuProducts chosen = cpu_bf16_products();
  ExampleJob sizes;
  const double exact = flops_of(layer_operations(example_job(sizes), 0, 2), Phase::kForward);
  sizes.precision = Precision::kBf16;
  const Job job = example_job(sizes);
  cpu_bf16_products() = CpuProducts::kLibrary;
  const double padded = flops_of(layer_operations(job, 0, 2), Phase::kForward);
  cpu_bf16_products() = CpuProducts::kKernel;
  EXPECT_NEAR(flops_of(layer_operations(job, 0, 2), Phase::kForward), exact, 1e-9 * exact);
  cpu_bf16_products() = chosen;
  // 1024 tokens x 2 over 16 experts: 128 rows each, and half of 15 rows of padding.
  const double padding = 16 * 7.5;
  EXPECT_NEAR(padded - exact, experts_flops(job.model, padding).value, 1e-9 * exact);
}

TEST(Operations, ExpertsAreChunkedOnTheCpuAndGroupedOnGpus) {
  Job job = example_job();
  const auto calls = [&] {
    double sum = 0;
    for (const OperationCost& cost : layer_operations(job, 0, 6)) {
      if (cost.cost_class == CostClass::kGroupedGemm && cost.phase == Phase::kForward) sum += cost.calls;
    }
    return sum;
  };
  // 384 rows an expert in chunks of 256: 1.5 chunks and half a chunk of remainder, for two products.
  EXPECT_NEAR(calls(), 2 * 16 * (1.5 + 255.0 / 512), 1e-9);
  job.hardware.spec.is_cpu = false;
  EXPECT_EQ(calls(), 2);
}

TEST(Operations, UpdateTouchesEveryWeight) {
  ExampleJob sizes;
  sizes.precision = Precision::kBf16;
  const Job job = example_job(sizes);
  const double weights = parameter_counts(job.model).total();
  std::map<Operation, double> bytes;
  for (const OperationCost& cost : update_operations(job)) {
    EXPECT_EQ(cost.phase, Phase::kUpdate);
    bytes[cost.operation] += cost.bytes;
  }
  EXPECT_EQ(bytes.at(Operation::kGradientNorm), 4 * weights);
  EXPECT_EQ(bytes.at(Operation::kOptimizer), 30 * weights);  // on a CPU: 8 + 4 + 16, and 2 of the bf16 copy
}

TEST(Operations, WorkIsPositiveAndFinite) {
  for (const Precision precision : {Precision::kFp64, Precision::kFp32, Precision::kBf16}) {
    ExampleJob sizes;
    sizes.precision = precision;
    for (const OperationCost& cost : step_operations(example_job(sizes), {1, 2, 4, 6})) {
      EXPECT_GE(cost.flops, 0);
      EXPECT_GT(cost.bytes, 0) << operation_name(cost.operation);
      EXPECT_GT(cost.working_set, 0) << operation_name(cost.operation);
      EXPECT_GT(cost.calls, 0);
      if (cost.cost_class == CostClass::kGemm || cost.cost_class == CostClass::kGroupedGemm) {
        EXPECT_GT(cost.rows * cost.columns * cost.inner, 0) << operation_name(cost.operation);
      }
    }
  }
}

TEST(Operations, DrawMustFitTheModel) { EXPECT_THROW(step_operations(example_job(), {1, 2}), std::logic_error); }

}  // namespace
}  // namespace mmoe
