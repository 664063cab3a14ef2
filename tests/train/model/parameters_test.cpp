#include "train/model/parameters.h"

#include <algorithm>

#include "sim/formulas/parameter_counts.h"
#include "tests/train/trainer_testing.h"
#include "train/model/transformer.h"

namespace mmoe {
namespace {

class ParameterSpecs : public testing::TestWithParam<const char*> {};

TEST_P(ParameterSpecs, SumToTheSimulatorsCount) {
  const Job job = small_job(GetParam());
  double total = 0;
  for (const ParameterSpec& spec : parameter_specs(job.model)) {
    double count = 1;
    for (const int64_t size : spec.shape) count *= static_cast<double>(size);
    total += count;
  }
  EXPECT_EQ(total, parameter_counts(job.model).total());
}

INSTANTIATE_TEST_SUITE_P(, ParameterSpecs,
                         testing::Values("{}", R"({"model": {"tie_embeddings": true}})",
                                         R"({"model": {"qk_norm": "full"}})",
                                         R"({"model": {"qk_norm": "per_head", "num_kv_heads": 2, "head_dim": 16}})",
                                         R"({"model": {"num_dense_layers": 1, "dense_hidden_size": 48}})",
                                         R"({"model": {"shared_expert_hidden_size": 24, "num_layers": 5}})",
                                         R"({"model": {"shared_expert_hidden_size": 24, "shared_expert_gate": true}})",
                                         R"({"model": {"qkv_bias": true, "num_kv_heads": 2}})"));

std::vector<ParameterSpec> specs() {
  return {{"norm", {5}, WeightDecay::kOff, 0, 1},
          {"a", {3, 7}, WeightDecay::kOn, 0.5},
          {"b", {40, 50}, WeightDecay::kOn, 2}};
}

TEST(ParameterStore, DecayedTensorsComeFirstAndEachIsAligned) {
  const ParameterStore store(specs(), at::kFloat, c10::kCPU, 1, Gradients::kAllocated);
  EXPECT_EQ(store.num_decayed(), 32 + 2000);  // 21 padded to 32
  EXPECT_EQ(store.master().numel(), 32 + 2000 + 16);
  for (const Parameter& parameter : store.all()) {
    EXPECT_EQ(parameter.master.storage_offset() % 16, 0) << parameter.name;
    EXPECT_EQ(parameter.decay == WeightDecay::kOn, parameter.master.storage_offset() < store.num_decayed());
    EXPECT_EQ(parameter.grad.storage_offset(), parameter.master.storage_offset());
    EXPECT_TRUE(parameter.grad.eq(0).all().item<bool>());
  }
  EXPECT_TRUE(store.at("norm").master.eq(1).all().item<bool>());
  EXPECT_EQ(store.at("a").master.data_ptr(), store.at("a").value.data_ptr());
}

// 2,000 normal values: the standard error of the mean is std / sqrt(2000), of the spread std / sqrt(4000).
TEST(ParameterStore, InitialValuesHaveTheGivenSpread) {
  const ParameterStore store(specs(), at::kDouble, c10::kCPU, 1, Gradients::kNone);
  const at::Tensor& b = store.at("b").master;
  EXPECT_NEAR(b.mean().item<double>(), 0, 5 * 2 / std::sqrt(2000.0));
  EXPECT_NEAR(b.std().item<double>(), 2, 5 * 2 / std::sqrt(4000.0));
  EXPECT_FALSE(store.grad().defined());
}

TEST(ParameterStore, InitialValuesFollowFromSeedAndNameAlone) {
  const ParameterStore first(specs(), at::kFloat, c10::kCPU, 1, Gradients::kNone);
  const ParameterStore again(specs(), at::kFloat, c10::kCPU, 1, Gradients::kAllocated);
  EXPECT_TRUE(same_bits(first.master(), again.master()));
  const ParameterStore other_seed(specs(), at::kFloat, c10::kCPU, 2, Gradients::kNone);
  EXPECT_FALSE(same_bits(first.at("a").master, other_seed.at("a").master));

  std::vector<ParameterSpec> changed = specs();
  changed[1].name = "renamed";
  std::reverse(changed.begin(), changed.end());
  const ParameterStore renamed(changed, at::kFloat, c10::kCPU, 1, Gradients::kNone);
  EXPECT_TRUE(same_bits(first.at("b").master, renamed.at("b").master));
  EXPECT_FALSE(same_bits(first.at("a").master, renamed.at("renamed").master));
}

TEST(ParameterStore, ComputeWeightsAreTheRoundedMasters) {
  ParameterStore store(specs(), at::kBFloat16, c10::kCPU, 1, Gradients::kAllocated);
  const Parameter& a = store.at("a");
  EXPECT_EQ(a.master.scalar_type(), at::kFloat);
  EXPECT_EQ(a.grad.scalar_type(), at::kFloat);
  EXPECT_TRUE(same_bits(a.value, a.master.to(at::kBFloat16)));
  at::Tensor master = store.master();
  master.mul_(1.7);
  EXPECT_FALSE(same_bits(a.value, a.master.to(at::kBFloat16)));
  store.refresh_compute_weights();
  EXPECT_TRUE(same_bits(a.value, a.master.to(at::kBFloat16)));
  at::Tensor grad = store.grad();
  grad.fill_(3);
  store.begin_gradients();
  EXPECT_EQ(next_sum(store.at("b")), GradientSum::kBegin);
  EXPECT_EQ(next_sum(store.at("b")), GradientSum::kContinue);
  EXPECT_TRUE(summed_gradient(store.at("norm")).eq(0).all().item<bool>());
  store.finish_gradients();
  EXPECT_TRUE(a.grad.eq(0).all().item<bool>());
  EXPECT_TRUE(store.at("b").grad.eq(3).all().item<bool>());  // whoever was told to begin would have written
}

}  // namespace
}  // namespace mmoe
