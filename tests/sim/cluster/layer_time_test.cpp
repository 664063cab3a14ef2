#include "sim/cluster/layer_time.h"

#include <gtest/gtest.h>

#include "sim/formulas/model_flops.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

// A framework that runs at the peak and does nothing but matrix products and attention.
Framework ideal(const Job& job) {
  Framework framework = framework_of(job);
  TimeParameters t;
  t.gemm_efficiency = t.grouped_gemm_efficiency = t.attention_efficiency = t.attention_backward_efficiency = 1;
  t.gemm_bytes_share = t.elementwise_factor = t.expert_elementwise_factor = t.accumulation_bytes = 0;
  t.attention_half_seq_len = t.host_per_layer = t.host_per_moe_layer = t.logit_bytes = 0;
  t.exposed_tensor = t.exposed_expert = 0;
  framework.time = t;
  framework.memory.hot_expert_excess = 0;
  return framework;
}

double at(const SecondsByCause& seconds, TimeCause cause) { return seconds[static_cast<std::size_t>(cause)]; }

// Forward FLOPs of the layers' products, all tensor ranks together, equal the closed forms.
TEST(LayerTimes, FlopsEqualTheClosedForms) {
  const Job job = example_cluster_job();
  const Framework framework = ideal(job);
  const LayerTimes layers(job, framework);
  const double peak = job.hardware.spec.peak_bf16.value, tokens = 2048, tensor = 2;
  const LayerSeconds dense = layers.dense_layer(), moe = layers.moe_layer(2);
  const double attention_products = (qkv_flops(job.model, tokens) + attention_output_flops(job.model, tokens)).value;
  EXPECT_NEAR(at(dense.forward, TimeCause::kProducts) * peak * tensor,
              attention_products + mlp_flops(job.model, tokens, 4096).value, 1e-9 * attention_products);
  EXPECT_NEAR(at(moe.forward, TimeCause::kExperts) * peak * tensor, experts_flops(job.model, tokens * 2).value,
              1e-9 * attention_products);
  EXPECT_NEAR(at(dense.forward, TimeCause::kAttention) * peak * tensor, attention_flops(job.model, tokens, 1).value,
              1e-9 * attention_products);
  EXPECT_NEAR(at(dense.backward, TimeCause::kProducts), 2 * at(dense.forward, TimeCause::kProducts), 1e-12);
}

TEST(LayerTimes, MoreExpertsTakeLonger) {
  const Job job = example_cluster_job();
  const Framework framework = framework_of(job);
  const LayerTimes layers(job, framework);
  for (int k = 1; k < 8; ++k) EXPECT_LT(layers.moe_layer(k).step_total(), layers.moe_layer(k + 1).step_total());
  EXPECT_LT(layers.moe_layer(2).step_total(), layers.moe_layer(2, 1.5).step_total());
}

// Megatron's softmax kernel takes four score matrices a block. Two heads of one sequence run in plain operations, which
// pass over the scores 16 times more and cost the host more; two heads of two sequences do not.
TEST(LayerTimes, SoftmaxOfAnOddNumberOfScoreMatricesIsNotFused) {
  const auto layer = [](const char* micro_batch, const char* precision) {
    const Job job = example_cluster_job({{"parallelism.tensor", "8"},
                                         {"parallelism.expert_tensor", "1"},
                                         {"parallelism.pipeline", "1"},
                                         {"training.precision", precision},
                                         {"training.attention_backend", "unfused"},
                                         {"training.micro_batch_size", micro_batch}});
    Framework framework = ideal(job);
    framework.time.unfused_softmax_host = 1e-3;
    return LayerTimes(job, framework).dense_layer();
  };
  const LayerSeconds one = layer("1", "bf16"), two = layer("2", "bf16");
  EXPECT_DOUBLE_EQ(one.host, 1e-3);
  EXPECT_EQ(two.host, 0);
  const double bandwidth = example_cluster_job().hardware.spec.memory_bandwidth.value * 0.85;
  const double pass = 2 * 2 * 2048.0 * 2048.0 / bandwidth;  // two heads, two bytes an element
  EXPECT_NEAR(at(one.forward, TimeCause::kAttention) - at(two.forward, TimeCause::kAttention) / 2, 16 * pass,
              1e-9 * pass);
  EXPECT_NEAR(at(one.backward, TimeCause::kAttention) - at(two.backward, TimeCause::kAttention) / 2, 17 * pass,
              1e-9 * pass);
  EXPECT_DOUBLE_EQ(layer("2", "fp32").host, 1e-3) << "the kernel takes 16-bit scores alone";
}

// Gathers of experts' rows over their tensor ranks do not overlap with products as those of dense ones do.
TEST(LayerTimes, ExpertTensorTransfersHideAsTheExchangeDoes) {
  const Job job = example_cluster_job({{"parallelism.expert_tensor", "2"}});
  Framework framework = framework_of(job);
  framework.time.exposed_expert = 1;
  const double all = at(LayerTimes(job, framework).moe_layer(2).forward, TimeCause::kExpert);
  ASSERT_GT(all, 0);
  framework.time.exposed_tensor = 0;
  EXPECT_EQ(at(LayerTimes(job, framework).moe_layer(2).forward, TimeCause::kExpert), all);
  framework.time.exposed_expert = 0.25;
  EXPECT_NEAR(at(LayerTimes(job, framework).moe_layer(2).forward, TimeCause::kExpert), all / 4, 1e-12);
}

// A dense layer gathers 2048 x 1024 elements twice forward and four times backward; half of each crosses a rank's link.
// With one scale a tensor fp8 spares one byte of two of each.
TEST(LayerTimes, NarrowProductsGatherNarrow) {
  double link = 0;
  const auto transfers = [&](const char* precision, const char* option) {
    const Job job = example_cluster_job({{"training.precision", precision}, {"training.options", option}});
    Framework framework = framework_of(job);
    framework.time.exposed_tensor = 1;
    const LayerTimes layers(job, framework);
    link = layers.network().links[0].bandwidth.value;
    const LayerSeconds layer = layers.dense_layer();
    return std::pair(at(layer.forward, TimeCause::kTensor), at(layer.backward, TimeCause::kTensor));
  };
  const auto wide = transfers("bf16", "[]"), narrow = transfers("fp8", "[]");
  const double spared = 2048.0 * 1024 / 2 / link;
  EXPECT_NEAR(wide.first - narrow.first, 2 * spared, 1e-9 * wide.first);
  EXPECT_NEAR(wide.second - narrow.second, 4 * spared, 1e-9 * wide.first);
  EXPECT_EQ(transfers("fp8", R"(["row_scales"])"), wide);
}

TEST(LayerTimes, AsynchronousTransfersHaveTheirOwnShare) {
  const auto layer = [](const char* option) {
    const Job job = example_cluster_job({{"training.options", option}});
    Framework framework = framework_of(job);
    framework.time.exposed_tensor = framework.time.exposed_expert = 0.8;
    framework.time.exposed_tensor_async = 0.4;
    framework.time.exposed_expert_async = 0.2;
    return LayerTimes(job, framework).moe_layer(2);
  };
  const LayerSeconds plain = layer("[]");
  for (const auto& [option, cause, share] : {std::tuple(R"(["async_tensor"])", TimeCause::kTensor, 0.5),
                                             std::tuple(R"(["async_expert"])", TimeCause::kExpert, 0.25)}) {
    ASSERT_GT(at(plain.forward, cause), 0);
    EXPECT_NEAR(at(layer(option).forward, cause), share * at(plain.forward, cause), 1e-15) << option;
    EXPECT_NEAR(at(layer(option).backward, cause), share * at(plain.backward, cause), 1e-15) << option;
  }
}

// Products of rows with a scale each run at a share of the rate; what they read and write is the same.
TEST(LayerTimes, ScalesOfRowsSlowFp8Products) {
  const auto products = [](const char* option) {
    const Job job = example_cluster_job({{"training.precision", "fp8"}, {"training.options", option}});
    Framework framework = ideal(job);
    framework.time.row_scale_efficiency = 0.5;
    return at(LayerTimes(job, framework).dense_layer().forward, TimeCause::kProducts);
  };
  EXPECT_NEAR(products(R"(["row_scales"])"), 2 * products("[]"), 1e-15);
}

TEST(LayerTimes, RecomputationIsNeverFaster) {
  const Job plain = example_cluster_job();
  const Framework framework = framework_of(plain);
  const double before = LayerTimes(plain, framework).moe_layer(2).step_total();
  double last = before;
  for (const char* recompute : {R"(["moe_activation"])", R"(["moe"])", "full"}) {
    const Job job = example_cluster_job({{"training.recompute", recompute}});
    const double now = LayerTimes(job, framework).moe_layer(2).step_total();
    EXPECT_GT(now, before) << recompute;
    last = now;
  }
  // Everything once more: the forward pass is added.
  EXPECT_NEAR(last - before,
              framework.time.recompute_factor * LayerTimes(plain, framework).moe_layer(2).forward_total(), 1e-12);
}

// An odd vocabulary slows the head's products where one rank holds it whole; split over ranks it is padded.
TEST(LayerTimes, OddVocabularyIsSlowOnOneTensorRankAlone) {
  for (const char* tensor : {"1", "2"}) {
    // 2 x 25129: each of two ranks has an odd share, so the test sees whether that counts.
    const char* vocabulary = tensor[0] == '1' ? "50257" : "50258";
    const Job job = example_cluster_job({{"parallelism.tensor", tensor}, {"model.vocab_size", vocabulary}});
    Framework framework = ideal(job);
    framework.vocabulary_multiple = 1;
    const double even = at(LayerTimes(job, framework).head().forward, TimeCause::kProducts);
    framework.time.odd_vocabulary_efficiency = 0.5;
    const double odd = at(LayerTimes(job, framework).head().forward, TimeCause::kProducts);
    EXPECT_NEAR(odd / even, tensor[0] == '1' ? 2 : 1, 1e-12) << "tensor " << tensor;
  }
}

// DeepSeek-V3's limit of 4 of 8 groups: a token crosses to fewer nodes, once each. Dispatch without a second level
// sends every row whatever the groups are.
TEST(LayerTimes, GroupLimitedRoutingSparesTheNetwork) {
  const auto transfers = [](int64_t limit, const char* dispatcher) {
    Job job = example_cluster_job({{"hardware.num_devices", "64"},
                                   {"parallelism.tensor", "1"},
                                   {"parallelism.pipeline", "1"},
                                   {"parallelism.expert", "64"},
                                   {"model.num_experts", "64"},
                                   {"model.top_k", "8"},
                                   {"model.n_group", "8"},
                                   {"model.topk_group", std::to_string(limit)},
                                   {"training.moe.dispatcher", dispatcher}});
    const Framework framework = framework_of(job);
    const LayerTimes times(job, framework);
    return times.moe_layer(8).forward[static_cast<std::size_t>(TimeCause::kExpert)];
  };
  double last = 0;
  for (const int64_t limit : {1, 2, 4, 8}) {
    const double now = transfers(limit, "hierarchical");
    EXPECT_GT(now, last) << limit;
    last = now;
    EXPECT_EQ(transfers(limit, "alltoall"), transfers(8, "alltoall"));
  }
}

}  // namespace
}  // namespace mmoe
