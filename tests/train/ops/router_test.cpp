#include "train/ops/router.h"

#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

using kernels::GateNormalization;

struct Case {
  const char* name;
  at::ScalarType type;
  RouterSettings settings;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

RouterSettings settings(int64_t top_k, GateNormalization normalization = GateNormalization::kNone,
                        int64_t k_reference = 0, double top_p = 0, double load_balance = 0, double z_loss = 0) {
  return {top_k, normalization, k_reference, top_p, load_balance, z_loss};
}

class Router : public testing::TestWithParam<Case> {};

TEST_P(Router, MatchesTheReference) {
  const at::ScalarType type = GetParam().type;
  RouterSettings chosen = GetParam().settings;
  chosen.measure_entropy = true;
  constexpr int64_t kTokens = 37, kHidden = 16, kExperts = 9;
  Parameter weight = make_parameter(random_tensor({kExperts, kHidden}, type, 1, 0.5));
  Routing routing;
  plain::Routed exact;
  OperationCase test;
  test.inputs = {random_tensor({kTokens, kHidden}, type, 2)};
  test.weights = {&weight};
  test.operation = [&](const auto& in) {
    routing = route(in[0], weight, chosen, {0, static_cast<int>(chosen.top_k)});
    EXPECT_TRUE(same_bits(routing.x_TD.detach(), in[0].detach()));
    return std::vector<at::Tensor>{routing.weights_TK, routing.x_TD};
  };
  test.reference = [&](const auto& in, const auto& w) {
    exact = plain::route(in[0], w[0], chosen);
    return std::vector<at::Tensor>{
        exact.weights_TK, in[0] * 1,
        exact.load_balance_loss * chosen.load_balance_coefficient + exact.z_loss * chosen.z_loss_coefficient};
  };
  // Logits and softmax are formed in the accumulate type; only the gradient of x is rounded to bf16, after its two
  // parts.
  test.tolerance = tolerance(type, 2 * kHidden + 3 * kExperts + kTokens, 3);
  expect_matches_reference(test);

  EXPECT_TRUE(routing.indices_TK.to(at::kLong).equal(exact.indices_TK));
  EXPECT_TRUE(routing.counts_E.equal(exact.counts_E.to(at::kLong)));
  const double bound = tolerance(accumulate_type(type), 2 * kHidden + 3 * kExperts + kTokens, 4);
  EXPECT_LE(relative_error(routing.load_balance_loss, exact.load_balance_loss.view({1})), bound);
  EXPECT_LE(relative_error(routing.z_loss, exact.z_loss.view({1})), bound);
  EXPECT_LE(relative_error(routing.entropy, exact.entropy), bound);
}

INSTANTIATE_TEST_SUITE_P(
    , Router,
    testing::Values(Case{"one", at::kDouble, settings(1)}, Case{"three", at::kDouble, settings(3)},
                    Case{"all", at::kDouble, settings(9)},
                    Case{"selected", at::kDouble, settings(3, GateNormalization::kSelected)},
                    Case{"selected_one", at::kDouble, settings(1, GateNormalization::kSelected)},
                    Case{"selected_all", at::kDouble, settings(9, GateNormalization::kSelected)},
                    Case{"reference_below_k", at::kDouble, settings(5, GateNormalization::kReference, 2)},
                    Case{"reference_at_k", at::kDouble, settings(4, GateNormalization::kReference, 4)},
                    Case{"reference_above_k", at::kDouble, settings(2, GateNormalization::kReference, 6)},
                    Case{"load_balance", at::kDouble, settings(2, GateNormalization::kNone, 0, 0, 0.7)},
                    Case{"z_loss", at::kDouble, settings(2, GateNormalization::kNone, 0, 0, 0, 0.3)},
                    Case{"everything", at::kDouble, settings(4, GateNormalization::kReference, 6, 0, 0.7, 0.3)},
                    Case{"top_p", at::kDouble, settings(6, GateNormalization::kNone, 0, 0.7)},
                    Case{"top_p_selected", at::kDouble, settings(6, GateNormalization::kSelected, 0, 0.7, 0.5, 0.2)},
                    Case{"top_p_reference", at::kDouble, settings(6, GateNormalization::kReference, 4, 0.7, 0.5, 0.2)},
                    Case{"fp32", at::kFloat, settings(4, GateNormalization::kReference, 6, 0, 0.7, 0.3)},
                    Case{"top_p_fp32", at::kFloat, settings(6, GateNormalization::kSelected, 0, 0.7, 0.5, 0.2)},
                    Case{"bf16", at::kBFloat16, settings(4, GateNormalization::kSelected, 0, 0, 0.7, 0.3)},
                    Case{"top_p_bf16", at::kBFloat16, settings(6, GateNormalization::kNone, 0, 0.7, 0.5, 0.2)}),
    [](const auto& test) { return std::string(test.param.name); });

// f_e P_e is least, and the loss 1, when both are uniform (arXiv:2101.03961, section 2.2).
TEST(LoadBalance, IsOneWhenAllExpertsAreUsedAlike) {
  const Parameter weight = make_parameter(at::zeros({4, 8}, at::kDouble));
  const Routing routing = route(random_tensor({10, 8}, at::kDouble, 1), weight, settings(4), {0, 4});
  EXPECT_DOUBLE_EQ(routing.load_balance_loss.item<double>(), 1);
  EXPECT_NEAR(routing.z_loss.item<double>(), std::pow(std::log(4.0), 2), 1e-14);
}

}  // namespace
}  // namespace mmoe
