#include "sim/cluster/layer_tensors.h"

#include <gtest/gtest.h>

#include "sim/cluster/memory_model.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

// Korthikanti et al. 2022 (arXiv:2205.05198): GPT shapes with dropout and unfused attention.
Job gpt(int64_t layers, int64_t hidden, int64_t heads, int64_t pipeline, int64_t chunks, int64_t micro_batch,
        bool sequence, const nlohmann::json& recompute, const char* precision = "bf16") {
  return parse_job(
      {{"model",
        {{"hidden_size", hidden},
         {"num_layers", layers},
         {"num_heads", heads},
         {"vocab_size", 51200},
         {"dense_hidden_size", 4 * hidden},
         {"activation", "gelu"},
         {"norm", "layer"},
         {"position", "learned"},
         {"max_position_embeddings", 2048},
         {"linear_bias", true}}},
       {"hardware", {{"cluster", "dgx-a100-80gb"}, {"num_devices", 8 * pipeline}}},
       {"parallelism", {{"tensor", 8}, {"pipeline", pipeline}, {"virtual_pipeline", chunks}, {"sequence", sequence}}},
       {"training",
        {{"framework", "megatron_lm"},
         {"seq_len", 2048},
         {"micro_batch_size", micro_batch},
         {"global_batch_size", micro_batch * pipeline},
         {"recompute", recompute},
         {"precision", precision},
         {"attention_backend", "unfused"},
         {"hidden_dropout", 0.1},
         {"attention_dropout", 0.1}}}},
      "gpt", "/");
}

double layer(const Job& job) {
  const Framework framework = framework_of(job);
  return layer_bytes(job, framework, rank_shapes(job, framework), LayerKind::kDense, 0, 1).kept;
}

// Per layer, their equations 2 (tensor), 4 (tensor and sequence) and 5 (with selective recomputation).
TEST(LayerTensors, EqualTheClosedFormsOfKorthikanti) {
  const double s = 2048, b = 1, h = 12288, a = 96, t = 8;
  EXPECT_DOUBLE_EQ(layer(gpt(96, 12288, 96, 8, 3, 1, false, "none")), s * b * h * (10 + 24 / t + 5 * a * s / (h * t)));
  EXPECT_DOUBLE_EQ(layer(gpt(96, 12288, 96, 8, 3, 1, true, "none")), s * b * h / t * (34 + 5 * a * s / h));
  EXPECT_DOUBLE_EQ(layer(gpt(96, 12288, 96, 8, 3, 1, true, {"core_attention"})), s * b * h / t * 34);
  EXPECT_DOUBLE_EQ(layer(gpt(96, 12288, 96, 8, 3, 1, true, "full")), s * b * h / t * 2);
}

// 16 numbers and two masks of a byte for each of the hidden states, two numbers and a mask for each score.
TEST(LayerTensors, DoubleButForMasksInFp32) {
  const double s = 2048, b = 1, h = 12288, a = 96, t = 8;
  EXPECT_DOUBLE_EQ(layer(gpt(96, 12288, 96, 8, 3, 1, true, "none", "fp32")),
                   s * b * h / t * (16 * 4 + 2 + (2 * 4 + 1) * a * s / h));
}

// A layer of routed experts keeps, for each active expert and token, its input, its two projections and its activation:
// 2 h + 2 (2 f) + 2 f bytes, beside what does not depend on k.
TEST(LayerTensors, RoutedRowsAreLinearInK) {
  const Job job = example_cluster_job({{"training.moe.dispatch", "padded"}});
  const Framework framework = framework_of(job);
  const RankShapes s = rank_shapes(job, framework);
  const auto kept = [&](double k) { return layer_bytes(job, framework, s, LayerKind::kMoe, k, 1).kept; };
  const double rows = s.rows_per_k, f = 512, h = 1024;
  EXPECT_DOUBLE_EQ(kept(3) - kept(2), rows * (2 * h + 4 * f + 2 * f));
  EXPECT_DOUBLE_EQ(kept(2) - kept(1), kept(3) - kept(2));
}

TEST(LayerTensors, WhatIsRecomputedIsNotKept) {
  const Job plain = example_cluster_job();
  const Framework framework = framework_of(plain);
  const RankShapes s = rank_shapes(plain, framework);
  const double whole = layer_bytes(plain, framework, s, LayerKind::kMoe, 2, 1).kept;
  for (const char* recompute : {R"(["moe"])", R"(["attention"])", R"(["moe_activation"])", "full"}) {
    const Job job = example_cluster_job({{"training.recompute", recompute}});
    const LayerBytes bytes = layer_bytes(job, framework, s, LayerKind::kMoe, 2, 1);
    EXPECT_LT(bytes.kept, whole) << recompute;
    EXPECT_DOUBLE_EQ(bytes.kept + bytes.again, whole) << recompute;
    EXPECT_DOUBLE_EQ(bytes.whole, whole) << recompute;
  }
}

}  // namespace
}  // namespace mmoe
