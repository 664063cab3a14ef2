// The operations without routing: embedding, norm, mlp and loss head, each against its definition.

#include "sim/memory/chunks.h"
#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"
#include "train/ops/embedding.h"
#include "train/ops/loss_head.h"
#include "train/ops/mlp.h"
#include "train/ops/norm.h"

namespace mmoe {
namespace {

class DenseOperations : public testing::TestWithParam<at::ScalarType> {
 protected:
  const at::ScalarType type = GetParam();
};

TEST_P(DenseOperations, EmbeddingGathersAndItsGradientCountsRepeats) {
  Parameter weight = make_parameter(random_tensor({11, 6}, type, 1));
  const at::Tensor tokens = random_tokens({40}, 9, 2);  // tokens repeat; 9 and 10 never come
  const at::Tensor x = embed(tokens, weight);
  EXPECT_TRUE(same_bits(x.detach(), weight.value.index_select(0, tokens.to(at::kLong))));
  const at::Tensor dx = random_tensor({40, 6}, type, 3);
  torch::autograd::backward({x}, {dx.clone()});
  const at::Tensor expected = at::zeros({11, 6}, at::kDouble).index_add(0, tokens.to(at::kLong), dx.to(at::kDouble));
  // Sums are formed in the accumulate type: up to 40 terms and the one that was there.
  EXPECT_LE(relative_error(weight.grad, expected + 1), tolerance(accumulate_type(type), 40, 1));
  EXPECT_TRUE(weight.grad.narrow(0, 9, 2).eq(1).all().item<bool>());
  weight.grad_is_stale = true;
  torch::autograd::backward({embed(tokens, weight)}, {dx.clone()});
  EXPECT_LE(relative_error(weight.grad, expected), tolerance(accumulate_type(type), 40, 1));
  EXPECT_TRUE(weight.grad.narrow(0, 9, 2).eq(0).all().item<bool>());
}

TEST_P(DenseOperations, NormMatchesTheReferenceAndAddsTheResidualsGradient) {
  for (const bool with_residual : {true, false}) {
    SCOPED_TRACE(with_residual ? "residual used" : "residual unused");
    Parameter weight = make_parameter(random_tensor({24}, type, 1));
    OperationCase test;
    test.inputs = {random_tensor({17, 24}, type, 2, 3)};
    test.weights = {&weight};
    test.operation = [&](const auto& in) {
      const Normed normed = rms_norm(in[0], weight, 1e-5, {0, 0});
      EXPECT_TRUE(same_bits(normed.residual_TD.detach(), in[0].detach()));
      return with_residual ? std::vector<at::Tensor>{normed.normed_TD, normed.residual_TD}
                           : std::vector<at::Tensor>{normed.normed_TD};
    };
    test.reference = [&](const auto& in, const auto& w) {
      const at::Tensor normed = plain::rms_norm(in[0], w[0], 1e-5);
      return with_residual ? std::vector<at::Tensor>{normed, in[0] * 1} : std::vector<at::Tensor>{normed};
    };
    test.tolerance = tolerance(type, 2 * 24 + 17, 2);
    expect_matches_reference(test);
  }
}

TEST_P(DenseOperations, MlpMatchesTheReferenceAndPassesItsInputThrough) {
  struct Use {
    bool passed_on, gated;
  };
  for (const auto& [passed_on, gated] : {Use{true, false}, Use{false, false}, Use{true, true}, Use{false, true}}) {
    SCOPED_TRACE(passed_on ? "input read by a router too" : "input used once");
    SCOPED_TRACE(gated ? "gated" : "not gated");
    Parameter gate = make_parameter(random_tensor({1, 12}, type, 5, 0.5));
    Parameter gate_up = make_parameter(random_tensor({2 * 20, 12}, type, 1, 0.3));
    Parameter down = make_parameter(random_tensor({12, 20}, type, 2, 0.3));
    OperationCase test;
    test.inputs = {random_tensor({15, 12}, type, 3), random_tensor({15, 12}, type, 4)};
    test.weights = {&gate_up, &down};
    if (gated) test.weights.push_back(&gate);
    const MlpWeights weights{&gate_up, &down, gated ? &gate : nullptr};
    test.operation = [&](const auto& in) {
      const MlpResult result = run_mlp(in[0], in[1], weights, "mlp", {0, 0});
      return passed_on ? std::vector<at::Tensor>{result.out_TD, result.x_TD} : std::vector<at::Tensor>{result.out_TD};
    };
    test.reference = [&](const auto& in, const auto& w) {
      const at::Tensor mlp = plain::mlp(in[1], w[0], w[1]);
      const at::Tensor out = in[0] + (gated ? in[1].matmul(w[2].t()).sigmoid() * mlp : mlp);
      return passed_on ? std::vector<at::Tensor>{out, in[1] * 1} : std::vector<at::Tensor>{out};
    };
    // bf16 roundings: gate_up, activation, result, the gate's logit; backward its gradient, that of gate_up, of the
    // logit, and the result.
    test.tolerance = tolerance(type, 3 * 12 + 4 * 20 + 15, gated ? 8 : 6);
    expect_matches_reference(test);
  }
}

// 150 tokens of a vocabulary of 65,536 take three chunks (64, 64, 22); of 30, one.
TEST_P(DenseOperations, LossHeadMatchesTheReferenceOverChunks) {
  constexpr double kScale = 0.125;
  for (const int64_t vocab : {30, 65536}) {
    SCOPED_TRACE(vocab);
    const int64_t tokens = 150, hidden = 8;
    ASSERT_EQ(loss_chunk_rows(tokens, vocab), vocab == 30 ? 150 : 64);
    Parameter weight = make_parameter(random_tensor({vocab, hidden}, type, 1));
    weight.grad.zero_();  // beside ones the gradients of rare tokens would not be seen
    at::Tensor targets = random_tokens({tokens}, vocab, 2);
    targets.narrow(0, 60, 9).fill_(-100);  // ignored
    const at::Tensor x = random_tensor({tokens, hidden}, type, 3).set_requires_grad(true);
    const at::Tensor exact_x = x.detach().to(at::kDouble).set_requires_grad(true);
    const at::Tensor exact_weight = weight.value.to(at::kDouble).clone().set_requires_grad(true);
    const at::Tensor exact_losses = plain::cross_entropy(exact_x.matmul(exact_weight.t()), targets);
    const auto exact = torch::autograd::grad({exact_losses.sum() * kScale}, {exact_x, exact_weight});

    const LossHeadResult head = loss_head(x, weight, targets, kScale);
    const at::Tensor without_gradient = token_losses(x.detach(), weight, targets);
    const auto dx = torch::autograd::grad({head.loss}, {x});
    // Sums over the vocabulary are long enough for their rounding errors to grow as the root of the length; four
    // standard deviations. The logits' absolute error, u |logit| with |logit| up to 4 sqrt(hidden), is a relative one
    // of the softmax.
    const auto vocab_sum = static_cast<int64_t>(4 * std::sqrt(static_cast<double>(vocab)));
    EXPECT_LE(relative_error(head.losses_T, exact_losses), tolerance(type, hidden + vocab_sum, 4));
    EXPECT_LE(relative_error(head.loss, exact_losses.sum() * kScale), tolerance(type, hidden + vocab_sum + tokens, 4));
    EXPECT_TRUE(same_bits(head.losses_T, without_gradient));
    EXPECT_TRUE(head.losses_T.narrow(0, 60, 9).eq(0).all().item<bool>());
    EXPECT_LE(relative_error(dx[0], exact[0]), tolerance(type, hidden + 2 * vocab_sum + 12, 4));
    EXPECT_LE(relative_error(weight.grad, exact[1]), tolerance(type, hidden + vocab_sum + tokens + 12, 4));
    const at::Tensor from_zero = weight.grad.clone();
    weight.grad.fill_(std::numeric_limits<double>::quiet_NaN());
    weight.grad_is_stale = true;
    loss_head(x, weight, targets, kScale);
    EXPECT_TRUE(weight.grad.equal(from_zero));
  }
}

INSTANTIATE_TEST_SUITE_P(, DenseOperations, testing::Values(at::kDouble, at::kFloat, at::kBFloat16), type_name);

}  // namespace
}  // namespace mmoe
