// The whole model, by the kernels and by plain LibTorch operators, against its definition in elementary operations; and
// recomputation against none.

#include "train/model/transformer.h"

#include <c10/core/GradMode.h>

#include <numeric>

#include "sim/units/errors.h"
#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

struct Batch {
  explicit Batch(const Job& job, uint64_t seed = 1) {
    const int64_t count = job.training.micro_batch_tokens();
    tokens = random_tokens({count}, job.model.vocab_size, seed);
    targets = random_tokens({count}, job.model.vocab_size, seed + 1);
    targets.narrow(0, 3, 2).fill_(-100);
  }
  at::Tensor tokens, targets;
};

struct Case {
  const char* name;
  std::string job;
  std::vector<int> k;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class WholeModel : public testing::TestWithParam<Case> {};

TEST_P(WholeModel, LossAndEveryGradientMatchThePlainReference) {
  const Job job = small_job(GetParam().job);
  Transformer transformer(job, c10::kCPU, Gradients::kAllocated);
  const Batch batch(job);
  std::map<std::string, at::Tensor> exact_weights;
  for (const Parameter& parameter : transformer.parameters().all()) {
    // Gains away from one, so that a forgotten one is seen.
    if (parameter.decay == WeightDecay::kOff) {
      at::Tensor(parameter.master)
          .add_(random_tensor(parameter.master.sizes(), at::kDouble, parameter.name.size(), 0.2));
    }
    exact_weights[parameter.name] = parameter.master.to(at::kDouble).clone().set_requires_grad(true);
  }
  transformer.parameters().refresh_compute_weights();
  if (job.training.precision == Precision::kBf16) {
    for (const Parameter& parameter : transformer.parameters().all()) {
      if (parameter.name.find("router") == std::string::npos) {
        exact_weights[parameter.name] = parameter.value.to(at::kDouble).clone().set_requires_grad(true);
      }
    }
  }
  const double loss_scale = 1.0 / static_cast<double>(batch.tokens.numel()), auxiliary_scale = 0.5;
  plain::ModelResult exact = plain::transformer(job, exact_weights, batch.tokens, batch.targets, GetParam().k);
  torch::autograd::backward({exact.losses_T.sum() * loss_scale + exact.auxiliary * auxiliary_scale}, {});

  const TrainingForward forward =
      transformer.training_forward({batch.tokens, batch.targets, GetParam().k, loss_scale, auxiliary_scale});
  torch::autograd::backward({forward.loss}, {});
  // The longest path: in each layer some 10 sums of up to 64 terms and 30 roundings forward, as many backward; the
  // vocabulary's sums at the end. In bf16 these are 12 roundings a layer each way (random, so growing as their root).
  const at::ScalarType type = compute_type(job.training.precision);
  const int64_t layers = job.model.num_layers;
  const double bound = type == at::kBFloat16
                           ? unit_roundoff(type) * 4 * std::sqrt(24.0 * static_cast<double>(layers))
                           : tolerance(type, layers * 2 * 10 * 64 + 2 * job.model.vocab_size, layers * 60);
  EXPECT_LE(relative_error(forward.losses_T, exact.losses_T), bound);
  EXPECT_LE(relative_error(forward.loss, exact.losses_T.sum() * loss_scale), bound);
  for (const Parameter& parameter : transformer.parameters().all()) {
    EXPECT_LE(relative_error(parameter.grad, exact_weights.at(parameter.name).grad()), bound) << parameter.name;
  }
  ASSERT_EQ(forward.routing.size(), exact.counts_E.size());
  for (size_t l = 0; l < forward.routing.size(); ++l) {
    if (type != at::kBFloat16) {  // there rounding of the residual stream may swap two close experts
      EXPECT_TRUE(forward.routing[l].counts_E.equal(exact.counts_E[l].to(at::kLong))) << l;
    }
    EXPECT_LE(relative_error(forward.routing[l].load_balance_loss, exact.load_balance_loss[l].view({1})), bound) << l;
    EXPECT_LE(relative_error(forward.routing[l].z_loss, exact.z_loss[l].view({1})), bound) << l;
  }
  const c10::NoGradGuard no_grad;
  EXPECT_TRUE(same_bits(transformer.evaluate(batch.tokens, batch.targets, GetParam().k), forward.losses_T));
}

std::vector<Case> cases() {
  return {
      Case{"olmoe", R"({"model": {"qk_norm": "full"}})", {2, 5}},
      Case{"qwen3",
           R"({"model": {"qk_norm": "per_head", "num_kv_heads": 2, "gate_normalization": "selected"}})",
           {1, 6}},
      Case{"no_norms", "{}", {3, 3}},
      Case{"reference_k", R"({"model": {"gate_normalization": "reference"}, "elastic": {"k_reference": 4}})", {1, 6}},
      Case{"shared_expert", R"({"model": {"shared_expert_hidden_size": 24}})", {2, 1}},
      Case{"qwen2_moe",
           R"({"model": {"shared_expert_hidden_size": 24, "shared_expert_gate": true, "qkv_bias": true}})",
           {2, 5}},
      Case{"dense_layer", R"({"model": {"num_dense_layers": 1, "dense_hidden_size": 40, "num_layers": 3}})", {6, 1}},
      Case{"tied", R"({"model": {"tie_embeddings": true, "head_dim": 16, "rope_theta": 100}})", {4, 2}},
      Case{"top_p", R"({"elastic": {"sampling": "top_p", "top_p": 0.4}})", {6, 6}},
      Case{"dense_model",
           R"({"model": {"num_experts": 0, "expert_hidden_size": 0, "dense_hidden_size": 40}, "elastic": null})",
           {}},
      Case{"full_recomputation", R"({"training": {"recompute": "full"}, "model": {"qk_norm": "full"}})", {2, 5}},
      Case{"fp32", R"({"training": {"precision": "fp32"}, "model": {"qk_norm": "full"}})", {2, 5}},
      Case{"bf16", R"({"training": {"precision": "bf16"}, "model": {"qk_norm": "full"}})", {8, 8}}};
}

std::vector<Case> aten_cases() {
  std::vector<Case> list = cases();
  for (Case& c : list) {
    nlohmann::json job = nlohmann::json::parse(c.job);
    job["training"]["operations"] = "aten";
    c.job = job.dump();
  }
  return list;
}

const auto case_name = [](const auto& test) { return std::string(test.param.name); };
INSTANTIATE_TEST_SUITE_P(, WholeModel, testing::ValuesIn(cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Aten, WholeModel, testing::ValuesIn(aten_cases()), case_name);

struct Outcome {
  at::Tensor loss, grad;
  std::vector<LayerRouting> routing;
};

Outcome run(const std::string& patch, const std::vector<int>& k) {
  const Job job = small_job(patch);
  Transformer transformer(job, c10::kCPU, Gradients::kAllocated);
  const Batch batch(job);
  const TrainingForward forward = transformer.training_forward({batch.tokens, batch.targets, k, 0.1, 0.5});
  torch::autograd::backward({forward.loss}, {});
  return {forward.loss.detach(), transformer.parameters().grad(), forward.routing};
}

class Recomputation : public testing::TestWithParam<const char*> {};

TEST_P(Recomputation, ChangesNoBitOfLossOrGradient) {
  const std::string model =
      R"("model": {"shared_expert_hidden_size": 24, "qk_norm": "full"}, "training": {"precision": ")";
  const std::string head = "{" + model + GetParam() + "\", \"recompute\": ";
  const Outcome none = run(head + "\"none\"}}", {1, 4});
  for (const char* recompute : {"\"full\"", "[\"moe\"]", "[\"attention\"]", "[\"moe\", \"attention\"]"}) {
    const Outcome outcome = run(head + recompute + "}}", {1, 4});
    EXPECT_TRUE(same_bits(outcome.loss, none.loss)) << recompute;
    EXPECT_TRUE(same_bits(outcome.grad, none.grad)) << recompute;
    ASSERT_EQ(outcome.routing.size(), 2U);
    for (size_t l = 0; l < 2; ++l) EXPECT_TRUE(same_bits(outcome.routing[l].counts_E, none.routing[l].counts_E));
  }
}

INSTANTIATE_TEST_SUITE_P(, Recomputation, testing::Values("fp64", "fp32", "bf16"),
                         [](const auto& test) { return std::string(test.param); });

// What a layer keeps for its backward pass counts the rows it computed: gate_up [R, 2F], with it the input [R, D] and
// the activation [R, F], or none of them; and four bytes for each row's token, each row's pair and each pair's row; the
// router keeps a weight and an index for each pair.
class ActiveExperts : public testing::TestWithParam<const char*> {};

TEST_P(ActiveExperts, RowsKeptAndComputedFollowK) {
  const std::string saving = GetParam();
  const Job job = small_job(R"({"training": {"precision": "fp32", "expert_saving": ")" + saving + "\"}}");
  Transformer transformer(job, c10::kCPU, Gradients::kAllocated);
  const Batch batch(job);
  const int64_t tokens = batch.tokens.numel();
  const auto kept = [&](const std::vector<int>& k) {
    OperationRecorder recorder(c10::kCPU);
    const TrainingForward forward = transformer.training_forward({batch.tokens, batch.targets, k, 1, 0});
    int64_t bytes = 0;
    for (const OperationSample& sample : recorder.samples) {
      if (sample.operation == "experts" || sample.operation == "router") bytes += sample.kept_bytes;
    }
    for (size_t l = 0; l < k.size(); ++l) {
      EXPECT_EQ(forward.routing[l].counts_E.sum().item<int64_t>(), tokens * k[l]);
    }
    return bytes;
  };
  const int64_t width = job.model.expert_hidden_size;
  const int64_t numbers = saving == "all" ? job.model.hidden_size + 3 * width : saving == "lean" ? 2 * width : 0;
  const int64_t row_bytes = numbers * 4 + 3 * 4 + 2 * 4;
  EXPECT_EQ(kept({6, 6}) - kept({1, 1}), tokens * 10 * row_bytes);
  EXPECT_EQ(kept({2, 5}) - kept({2, 4}), tokens * row_bytes);
}

INSTANTIATE_TEST_SUITE_P(, ActiveExperts, testing::Values("all", "lean", "recompute"),
                         [](const auto& test) { return std::string(test.param); });

class Cache : public testing::TestWithParam<const char*> {};

// The same sums in another order: tolerances as for the whole model.
TEST_P(Cache, TokenByTokenGivesTheLogitsOfTheWholeSequence) {
  const Job job = small_job(GetParam());
  Transformer transformer(job, c10::kCPU, Gradients::kNone);
  const int64_t length = job.training.seq_len;
  const at::Tensor tokens = random_tokens({length}, job.model.vocab_size, 3);
  const std::vector<int> k = {3, 1};
  const c10::NoGradGuard no_grad;
  const at::Tensor whole_TV = transformer.logits(tokens, k);
  KvCache cache = transformer.make_cache(length);
  const int64_t prompt = length / 2;
  const double bound = tolerance(at::kDouble, job.model.num_layers * 10 * 64, job.model.num_layers * 60);
  for (int64_t seen = prompt; seen <= length; ++seen) {
    const int64_t first = seen == prompt ? 0 : seen - 1;
    const at::Tensor logits_V = transformer.extend(cache, tokens.narrow(0, first, seen - first), k);
    EXPECT_EQ(cache.length, seen);
    EXPECT_LE(relative_error(logits_V, whole_TV[seen - 1]), bound) << seen;
  }
  EXPECT_THROW(transformer.extend(cache, tokens.narrow(0, 0, 1), k), std::exception);  // full
}

INSTANTIATE_TEST_SUITE_P(
    , Cache,
    testing::Values("{}", R"({"model": {"qk_norm": "full"}})",
                    R"({"model": {"num_kv_heads": 2, "qk_norm": "per_head", "shared_expert_hidden_size": 24}})"));

TEST(ComputeType, RefusesFp8) {
  EXPECT_EQ(compute_type(Precision::kBf16), at::kBFloat16);
  EXPECT_THROW(compute_type(Precision::kFp8), ConfigError);
}

}  // namespace
}  // namespace mmoe
