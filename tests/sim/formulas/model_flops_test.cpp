#include "sim/formulas/model_flops.h"

#include <gtest/gtest.h>

#include "sim/formulas/parameter_counts.h"
#include "tests/sim/formulas/published_models.h"

namespace mmoe {
namespace {

// Pairs that a causal mask leaves, counted one by one.
TEST(ModelFlops, CausalPairsByCounting) {
  for (const int seq_len : {1, 2, 7, 64}) {
    double pairs = 0;
    for (int query = 0; query < seq_len; ++query) {
      for (int key = 0; key <= query; ++key) ++pairs;
    }
    EXPECT_EQ(causal_pairs(seq_len), pairs);
  }
}

// Each weight of a matrix takes part in one multiply-add a token: forward FLOPs are 2 N plus attention, where N leaves
// out the embedding (a look-up) and the norms. All terms are integers below 2^53 for this model, so equality is exact.
TEST(ModelFlops, AreTwiceTheActiveMatrixWeights) {
  const ModelConfig model = olmoe_1b_7b();
  const double seq_len = 128, sequences = 2, tokens = seq_len * sequences;
  for (const int k : {1, 3, 8}) {
    const ParameterCounts counts = parameter_counts(model);
    const double weights = active_parameters(model, k) - counts.embedding - counts.norms;
    const double attention =
        static_cast<double>(model.num_layers * model.query_size()) * 4 * sequences * causal_pairs(seq_len);
    EXPECT_EQ(forward_flops(model, seq_len, sequences).total(16.0 * k).value, 2 * tokens * weights + attention) << k;
  }
}

TEST(ModelFlops, StepIsThreeForwardPasses) {
  const ModelConfig model = mixtral_8x7b();
  EXPECT_EQ(model_step_flops(model, 512, 4, 64).value, 3 * forward_flops(model, 512, 4).total(64).value);
}

TEST(ModelFlops, DenseAndSharedLayersCount) {
  ModelConfig model = olmoe_1b_7b();
  const double before = forward_flops(model, 64, 1).fixed.value;
  model.shared_expert_hidden_size = 512;
  EXPECT_EQ(forward_flops(model, 64, 1).fixed.value - before, 16 * mlp_flops(model, 64, 512).value);
  model.shared_expert_hidden_size = 0;
  model.num_dense_layers = 2;
  model.dense_hidden_size = 4096;
  EXPECT_EQ(forward_flops(model, 64, 1).fixed.value - before,
            2 * (mlp_flops(model, 64, 4096) - router_flops(model, 64)).value);
}

TEST(ModelFlops, AllocationCountsTheSumOfK) {
  const ModelConfig model = olmoe_1b_7b();
  std::vector<int> uniform(16, 2), uneven(16, 1);
  for (int layer = 0; layer < 8; ++layer) uneven[static_cast<size_t>(layer)] = 3;
  EXPECT_EQ(allocation_flops_per_token(model, 256, uniform), allocation_flops_per_token(model, 256, uneven));
  uneven[0] = 4;
  const Flops one_more =
      allocation_flops_per_token(model, 256, uneven) - allocation_flops_per_token(model, 256, uniform);
  EXPECT_DOUBLE_EQ(one_more.value, experts_flops(model, 1).value);
  EXPECT_THROW(allocation_flops_per_token(model, 256, {1}), std::logic_error);
}

}  // namespace
}  // namespace mmoe
