// The whole MoE layer, router and experts: gradients against a plain reference and against finite differences.

#include "train/ops/experts.h"

#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

using kernels::GateNormalization;

enum class Load { kSpread, kOneExpertTakesAll };

struct Case {
  const char* name;
  at::ScalarType type;
  int64_t tokens, num_experts, top_k;
  RouterSettings settings;  // top_k is filled in
  Load load = Load::kSpread;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> cases() {
  return {Case{"one_expert_a_token", at::kDouble, 19, 6, 1, {}},
          Case{"all_experts", at::kDouble, 19, 6, 6, {}},
          Case{"three", at::kDouble, 31, 8, 3, {0, GateNormalization::kNone, 0, 0, 0.6, 0.2}},
          Case{"renormalised", at::kDouble, 31, 8, 3, {0, GateNormalization::kSelected, 0, 0, 0.6, 0.2}},
          Case{"reference", at::kDouble, 31, 8, 2, {0, GateNormalization::kReference, 5, 0, 0.6, 0.2}},
          Case{"top_p", at::kDouble, 31, 8, 5, {0, GateNormalization::kSelected, 0, 0.6, 0.6, 0.2}},
          Case{"empty_experts", at::kDouble, 5, 32, 2, {}},
          Case{"one_takes_all", at::kDouble, 23, 6, 1, {}, Load::kOneExpertTakesAll},
          Case{"one_in_every_pair", at::kDouble, 23, 6, 2, {}, Load::kOneExpertTakesAll},
          Case{"one_token", at::kDouble, 1, 4, 2, {}},
          Case{"one_expert", at::kDouble, 9, 1, 1, {}},
          Case{"several_chunks", at::kDouble, 600, 2, 1, {}, Load::kOneExpertTakesAll},
          Case{"fp32", at::kFloat, 31, 8, 3, {0, GateNormalization::kSelected, 0, 0, 0.6, 0.2}},
          Case{"one_takes_all_fp32", at::kFloat, 300, 4, 1, {}, Load::kOneExpertTakesAll},
          Case{"bf16", at::kBFloat16, 150, 8, 3, {0, GateNormalization::kSelected, 0, 0, 0.6, 0.2}},
          Case{"empty_experts_bf16", at::kBFloat16, 5, 32, 2, {}},
          Case{"one_takes_all_bf16", at::kBFloat16, 300, 4, 1, {}, Load::kOneExpertTakesAll}};
}

std::vector<Case> fp64_cases() {
  std::vector<Case> chosen = cases();
  std::erase_if(chosen, [](const Case& c) { return c.type != at::kDouble; });
  return chosen;
}

class MoeLayer : public testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kHidden = 12, kWidth = 10;

  void SetUp() override {
    settings.top_k = c.top_k;
    at::Tensor router_values = random_tensor({c.num_experts, kHidden}, c.type, 1, 0.5);
    x = random_tensor({c.tokens, kHidden}, c.type, 2);
    if (c.load == Load::kOneExpertTakesAll) {  // its logit is 5 times |x| above the others
      x = x.abs() + 0.5;
      router_values[c.num_experts - 1].fill_(5);
    }
    router = make_parameter(router_values);
    gate_up = make_parameter(random_tensor({c.num_experts, 2 * kWidth, kHidden}, c.type, 3, 0.5));
    down = make_parameter(random_tensor({c.num_experts, kHidden, kWidth}, c.type, 4, 0.5));
    residual = random_tensor({c.tokens, kHidden}, c.type, 5);
  }

  at::Tensor layer(const at::Tensor& residual_TD, const at::Tensor& x_TD, ExpertSaving saving = ExpertSaving::kLean) {
    routing = route(x_TD, router, settings, {0, static_cast<int>(c.top_k)});
    return run_experts(residual_TD, routing, {&gate_up, &down}, {0, static_cast<int>(c.top_k)}, saving);
  }

  const Case& c = GetParam();
  RouterSettings settings = GetParam().settings;
  Parameter router, gate_up, down;
  at::Tensor x, residual;
  Routing routing;
};

TEST_P(MoeLayer, MatchesThePlainReference) {
  at::Tensor counts;
  OperationCase test;
  test.inputs = {residual, x};
  test.weights = {&router, &gate_up, &down};
  test.operation = [&](const auto& in) { return std::vector<at::Tensor>{layer(in[0], in[1])}; };
  test.reference = [&](const auto& in, const auto& w) {
    const plain::Routed routed = plain::route(in[1], w[0], settings);
    counts = routed.counts_E.to(at::kLong);
    return std::vector<at::Tensor>{
        in[0] + plain::experts(in[1], routed.dense_TE, w[1], w[2]),
        routed.load_balance_loss * settings.load_balance_coefficient + routed.z_loss * settings.z_loss_coefficient};
  };
  // bf16 roundings: gate_up, activation, an expert's result, the sum; backward the activation's gradient, gate_up's,
  // the rows', their sum, and the routing weights' path into x.
  test.tolerance = tolerance(c.type, c.tokens + 4 * kHidden + 4 * kWidth + 3 * c.num_experts + 2 * c.top_k, 9);
  expect_matches_reference(test);
  EXPECT_TRUE(routing.counts_E.equal(counts));
  if (c.load == Load::kOneExpertTakesAll) {
    EXPECT_EQ(counts[c.num_experts - 1].item<int64_t>(), c.tokens);
  }
}

TEST_P(MoeLayer, WhatIsKeptChangesNoBit) {
  const auto results = [&](ExpertSaving saving) {
    for (const Parameter* weight : {&router, &gate_up, &down}) at::Tensor(weight->grad).fill_(1);
    const at::Tensor x_leaf = x.detach().clone().set_requires_grad(true);
    const at::Tensor out = layer(residual, x_leaf, saving);
    torch::autograd::backward({out}, {random_tensor(residual.sizes(), c.type, 6)});
    return std::vector<at::Tensor>{out.detach(), x_leaf.grad(), router.grad.clone(), gate_up.grad.clone(),
                                   down.grad.clone()};
  };
  const std::vector<at::Tensor> lean = results(ExpertSaving::kLean);
  for (const ExpertSaving saving : {ExpertSaving::kAll, ExpertSaving::kRecompute}) {
    const std::vector<at::Tensor> other = results(saving);
    for (size_t i = 0; i < lean.size(); ++i) {
      EXPECT_TRUE(same_bits(other[i], lean[i])) << "tensor " << i << ", saving " << static_cast<int>(saving);
    }
  }
}

// Experts that no token chose get no gradient at all.
TEST_P(MoeLayer, EmptyExpertsAreLeftAlone) {
  torch::autograd::backward({layer(residual, x.detach().clone().set_requires_grad(true))},
                            {random_tensor(residual.sizes(), c.type, 6)});
  int64_t empty = 0;
  for (int64_t e = 0; e < c.num_experts; ++e) {
    if (routing.counts_E[e].item<int64_t>() > 0) continue;
    ++empty;
    EXPECT_TRUE(gate_up.grad[e].eq(1).all().item<bool>()) << e;
    EXPECT_TRUE(down.grad[e].eq(1).all().item<bool>()) << e;
  }
  if (c.load == Load::kOneExpertTakesAll && c.top_k == 1) {
    EXPECT_EQ(empty, c.num_experts - 1);
  }
}

class MoeLayerInFp64 : public MoeLayer {};

// Central differences along random directions. With steps of 1e-5 in quantities of order one, the third-order term is
// about 1e-10 and rounding 1e-16 / 1e-5 = 1e-11 of the objective, which is a sum of a few hundred terms.
TEST_P(MoeLayerInFp64, GradientsMatchFiniteDifferences) {
  const at::Tensor cotangent = random_tensor(residual.sizes(), c.type, 7);
  const auto objective = [&] {
    const at::Tensor out = layer(residual, x);
    return (out * cotangent).sum().item<double>() +
           settings.load_balance_coefficient * routing.load_balance_loss.item<double>() +
           settings.z_loss_coefficient * routing.z_loss.item<double>();
  };
  const at::Tensor residual_leaf = residual.clone().set_requires_grad(true), x_leaf = x.clone().set_requires_grad(true);
  const auto gradients =
      torch::autograd::grad({layer(residual_leaf, x_leaf)}, {residual_leaf, x_leaf}, {cotangent.clone()});
  const at::Tensor chosen = routing.indices_TK.clone();
  const std::pair<at::Tensor, at::Tensor> pairs[] = {{residual, gradients[0]},
                                                     {x, gradients[1]},
                                                     {router.master, router.grad - 1},
                                                     {gate_up.master, gate_up.grad - 1},
                                                     {down.master, down.grad - 1}};
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < std::size(pairs); ++i) {
    at::Tensor values = pairs[i].first;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const at::Tensor direction = random_tensor(values.sizes(), at::kDouble, 100 * i + seed);
      const at::Tensor start = values.clone();
      values.add_(direction, kStep);
      const double above = objective();
      ASSERT_TRUE(routing.indices_TK.equal(chosen)) << "the step changes the selection: choose another seed";
      values.copy_(start).sub_(direction, kStep);
      const double below = objective();
      ASSERT_TRUE(routing.indices_TK.equal(chosen)) << "the step changes the selection: choose another seed";
      values.copy_(start);
      const double expected = (pairs[i].second * direction).sum().item<double>();
      const double scale = (pairs[i].second * direction).norm().item<double>() + 1e-3;
      EXPECT_NEAR((above - below) / (2 * kStep), expected, 1e-7 * scale) << "tensor " << i << ", direction " << seed;
    }
  }
}

const auto case_name = [](const auto& test) { return std::string(test.param.name); };
INSTANTIATE_TEST_SUITE_P(, MoeLayer, testing::ValuesIn(cases()), case_name);
INSTANTIATE_TEST_SUITE_P(, MoeLayerInFp64, testing::ValuesIn(fp64_cases()), case_name);

}  // namespace
}  // namespace mmoe
