#include "sim/formulas/parameter_counts.h"

#include <gtest/gtest.h>

#include "tests/sim/formulas/published_models.h"

namespace mmoe {
namespace {

// Totals and active weights as the model cards print them, to 0.1 billion. Some cards round and some cut the digits off
// (Qwen's 3.35 is printed as 3.3), so the count lies at most half a digit below or one digit above.
struct Row {
  const char* name;
  ModelConfig model;
  int top_k;
  double total_billion, active_billion;
};

class PublishedParameters : public testing::TestWithParam<Row> {};

TEST_P(PublishedParameters, AgreeToThePrintedDigit) {
  const Row& row = GetParam();
  const double total = parameter_counts(row.model).total() / 1e9;
  const double active = active_parameters(row.model, row.top_k) / 1e9;
  EXPECT_GE(total, row.total_billion - 0.05);
  EXPECT_LT(total, row.total_billion + 0.1);
  EXPECT_GE(active, row.active_billion - 0.05);
  EXPECT_LT(active, row.active_billion + 0.1);
}

INSTANTIATE_TEST_SUITE_P(, PublishedParameters,
                         testing::Values(Row{"olmoe_1b_7b", olmoe_1b_7b(), 8, 6.9, 1.3},
                                         Row{"qwen3_30b_a3b", qwen3_30b_a3b(), 8, 30.5, 3.3},
                                         Row{"mixtral_8x7b", mixtral_8x7b(), 2, 46.7, 12.9}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(ParameterCounts, CountsByHand) {
  ModelConfig model;
  model.hidden_size = 8;
  model.num_layers = 3;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.head_dim = 4;
  model.vocab_size = 10;
  model.num_experts = 4;
  model.expert_hidden_size = 5;
  model.shared_expert_hidden_size = 6;
  model.num_dense_layers = 1;
  model.dense_hidden_size = 7;
  model.qk_norm = QkNorm::kFull;
  const ParameterCounts counts = parameter_counts(model);
  EXPECT_EQ(counts.embedding, 80);
  EXPECT_EQ(counts.head, 80);
  EXPECT_EQ(counts.attention, 3 * (8 * (8 + 2 * 4) + 8 * 8));
  EXPECT_EQ(counts.router, 2 * 8 * 4);
  EXPECT_EQ(counts.experts, 2 * 4 * 3 * 8 * 5);
  EXPECT_EQ(counts.shared_expert, 2 * 3 * 8 * 6);
  EXPECT_EQ(counts.dense_mlp, 3 * 8 * 7);
  EXPECT_EQ(counts.norms, 3 * (16 + 8 + 4) + 8);
  EXPECT_EQ(active_parameters(model, 4), counts.total());
  model.tie_embeddings = true;
  EXPECT_EQ(parameter_counts(model).total(), counts.total() - 80);
}

TEST(ParameterCounts, LayersAddUp) {
  ModelConfig model = qwen3_30b_a3b();
  model.num_dense_layers = 3;
  model.dense_hidden_size = 6144;
  const ParameterCounts counts = parameter_counts(model);
  double layers = 0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) layers += layer_parameters(model, layer);
  EXPECT_EQ(layers + counts.embedding + counts.head + static_cast<double>(model.hidden_size), counts.total());
}

}  // namespace
}  // namespace mmoe
