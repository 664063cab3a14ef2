#pragma once
// What the tests of the trainer share: the allocator and the kernels' runtime, installed before the first tensor;
// random tensors and weights; small jobs; operations compared with plain fp64 references.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "train/model/parameters.h"
#include "train/ops/parallel.h"
#include "train/profiling/counting_allocator.h"

namespace mmoe {

// Set up while the program starts, as main of mmoe-train does.
inline const bool trainer_installed = [] {
  install_counting_allocator();
  install_kernel_runtime();
  return true;
}();

// Normal values of the given spread, the same for the same seed.
inline at::Tensor random_tensor(at::IntArrayRef shape, at::ScalarType type, uint64_t seed, double spread = 1) {
  at::Tensor values = at::empty(shape, at::TensorOptions().dtype(at::kDouble));
  values.normal_(0, spread, at::detail::createCPUGenerator(seed));
  return values.to(type);
}

// A weight whose master is exactly its value, and whose gradient starts at one: backward passes must add to it.
inline Parameter make_parameter(const at::Tensor& value) {
  Parameter parameter;
  parameter.value = value;
  parameter.master = value.to(accumulate_type(value.scalar_type()));
  parameter.grad = parameter.master.clone().fill_(1);
  return parameter;
}

inline double unit_roundoff(at::ScalarType type) {
  return std::ldexp(1.0, type == at::kDouble ? -53 : type == at::kFloat ? -24 : -8);
}

// Largest relative error of a chain of operations of sums with `sum_length` terms in all and `steps` further roundings
// (Higham 2002, section 3.1). bf16 sums are formed in fp32, so only the steps count.
inline double tolerance(at::ScalarType type, int64_t sum_length, int64_t steps) {
  return unit_roundoff(type) * static_cast<double>(type == at::kBFloat16 ? steps : sum_length + steps);
}

// |actual - expected| / |expected| in the Euclidean norm. NaN in `actual` gives NaN, which passes no comparison.
inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor exact = expected.detach().to(at::kDouble);
  const auto difference = (actual.detach().to(at::kDouble) - exact).norm().item<double>();
  const auto size = exact.norm().item<double>();
  return size == 0 ? difference : difference / size;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.equal(b);
}

// An operation of train/ops beside its definition in elementary operations, which LibTorch differentiates in fp64.
struct OperationCase {
  std::vector<at::Tensor> inputs;
  std::vector<Parameter*> weights;
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)> operation;
  // Outputs as those of `operation`; one more is a term added to the objective (auxiliary losses).
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& weights)>
      reference;
  double tolerance = 0;  // relative, Euclidean norm
};

// The weights' gradients where each held `earlier` before.
inline std::vector<at::Tensor> weight_gradients(const OperationCase& test, double earlier, bool stale) {
  std::vector<at::Tensor> inputs, cotangents, gradients;
  for (Parameter* const weight : test.weights) {
    weight->grad.fill_(earlier);
    weight->grad_is_stale = stale;
  }
  for (const at::Tensor& input : test.inputs) inputs.push_back(input.detach().clone().set_requires_grad(true));
  const std::vector<at::Tensor> outputs = test.operation(inputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    cotangents.push_back(random_tensor(outputs[i].sizes(), outputs[i].scalar_type(), 900 + i));
  }
  torch::autograd::grad(outputs, inputs, cotangents);
  for (const Parameter* const weight : test.weights) {
    EXPECT_FALSE(weight->grad_is_stale);
    gradients.push_back(weight->grad.clone());
  }
  return gradients;
}

// Compares outputs and the gradients of all inputs and weights under random cotangents; and sums that begin, whatever
// was there, with those that go on from zero: but for the sign of a zero they are the same bits.
inline void expect_matches_reference(const OperationCase& test) {
  const auto leaf = [](const at::Tensor& tensor) { return tensor.detach().clone().set_requires_grad(true); };
  std::vector<at::Tensor> inputs, exact_inputs, exact_weights, cotangents, exact_cotangents, exact_leaves;
  for (const at::Tensor& input : test.inputs) {
    inputs.push_back(leaf(input));
    exact_inputs.push_back(leaf(input.to(at::kDouble)));
  }
  for (const Parameter* weight : test.weights) exact_weights.push_back(leaf(weight->master.to(at::kDouble)));
  const std::vector<at::Tensor> outputs = test.operation(inputs);
  std::vector<at::Tensor> exact = test.reference(exact_inputs, exact_weights);
  for (size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_LE(relative_error(outputs[i], exact[i]), test.tolerance) << "output " << i;
    cotangents.push_back(random_tensor(outputs[i].sizes(), outputs[i].scalar_type(), 900 + i));
    exact_cotangents.push_back(cotangents.back().to(at::kDouble));
  }
  if (exact.size() > outputs.size()) exact_cotangents.push_back(exact.back().detach().clone().fill_(1));
  exact_leaves = exact_inputs;
  exact_leaves.insert(exact_leaves.end(), exact_weights.begin(), exact_weights.end());
  const auto exact_gradients = torch::autograd::grad(exact, exact_leaves, exact_cotangents);
  const auto gradients = torch::autograd::grad(outputs, inputs, cotangents);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(relative_error(gradients[i], exact_gradients[i]), test.tolerance) << "gradient of input " << i;
  }
  for (size_t i = 0; i < test.weights.size(); ++i) {
    const at::Tensor sum = exact_gradients[inputs.size() + i] + 1;  // it started at one
    EXPECT_LE(relative_error(test.weights[i]->grad, sum), test.tolerance) << "gradient of weight " << i;
  }
  const std::vector<at::Tensor> from_zero = weight_gradients(test, 0, /*stale=*/false);
  const std::vector<at::Tensor> begun = weight_gradients(test, std::numeric_limits<double>::quiet_NaN(), true);
  for (size_t i = 0; i < begun.size(); ++i) EXPECT_TRUE(begun[i].equal(from_zero[i])) << "weight " << i;
}

// A small job of two MoE layers on the CPU, changed by `patch` (JSON merge patch).
inline Job small_job(const std::string& patch = "{}") {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 96, "num_experts": 8,
              "expert_hidden_size": 16},
    "hardware": {"device": "cpu"},
    "training": {"seq_len": 16, "micro_batch_size": 2, "global_batch_size": 4, "precision": "fp64", "seed": 7},
    "elastic": {"k_min": 1, "k_max": 6}})");
  json.merge_patch(nlohmann::json::parse(patch));
  return parse_job(json, "job.json", ".");
}

// int32 [shape], uniform in 0..vocab_size - 1.
inline at::Tensor random_tokens(at::IntArrayRef shape, int64_t vocab_size, uint64_t seed) {
  at::Tensor tokens = at::empty(shape, at::TensorOptions().dtype(at::kInt));
  return tokens.random_(0, vocab_size, at::detail::createCPUGenerator(seed));
}

inline std::string type_name(const testing::TestParamInfo<at::ScalarType>& info) { return c10::toString(info.param); }

}  // namespace mmoe
