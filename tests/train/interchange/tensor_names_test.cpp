#include "train/interchange/tensor_names.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/train/trainer_testing.h"
#include "train/model/transformer.h"

namespace mmoe {
namespace {

int64_t elements(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

class TensorNames : public testing::TestWithParam<const char*> {};

TEST_P(TensorNames, CoverEveryElementOnceUnderDistinctNames) {
  const ModelConfig model = small_job(GetParam()).model;
  for (const TensorNaming naming : {TensorNaming::kCommon, TensorNaming::kMixtral}) {
    std::set<std::string> names;
    for (const ParameterSpec& spec : parameter_specs(model)) {
      int64_t total = 0;
      for (const ForeignTensor& tensor : foreign_tensors(model, naming, spec)) {
        EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
        total += elements(tensor.shape);
      }
      EXPECT_EQ(total, elements(spec.shape)) << spec.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    , TensorNames,
    testing::Values(R"({"model": {"qk_norm": "full"}})", R"({"model": {"qk_norm": "per_head", "num_kv_heads": 2}})",
                    R"({"model": {"tie_embeddings": true, "num_dense_layers": 1, "dense_hidden_size": 40}})",
                    R"({"model": {"shared_expert_hidden_size": 24, "shared_expert_gate": true, "qkv_bias": true}})"));

TEST(ForeignTensors, AreThoseOfSavePretrained) {
  const ModelConfig model = small_job(R"({"model": {"num_layers": 12}})").model;
  const ParameterSpec down{"layers.11.experts.down", {model.num_experts, model.hidden_size, model.expert_hidden_size}};
  EXPECT_EQ(foreign_tensors(model, TensorNaming::kCommon, down)[3].name,
            "model.layers.11.mlp.experts.3.down_proj.weight");
  EXPECT_EQ(foreign_tensors(model, TensorNaming::kMixtral, down)[3].name,
            "model.layers.11.block_sparse_moe.experts.3.w2.weight");
}

}  // namespace
}  // namespace mmoe
