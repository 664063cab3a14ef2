#include "train/ops/router.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/special_entr.h>

#ifdef MMOE_WITH_CUDA
#include "kernels/router/router_cuda.h"
#endif
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// From what each rank found for its tokens to what holds for those of all: counts are summed, P_e, the z loss and the
// entropy are means over ranks with equally many tokens.
void reduce_over_ranks(const Communicator& group, const at::Tensor& mean_probability_E, Routing& routing) {
  const int64_t experts = routing.counts_E.numel();
  std::vector<at::Tensor> parts{routing.counts_E, mean_probability_E, routing.z_loss};
  if (routing.entropy.defined()) parts.push_back(routing.entropy.view({1}));
  for (at::Tensor& part : parts) part = part.to(at::kDouble);
  const at::Tensor sums = at::cat(parts);
  group.all_reduce(sums).wait();
  const at::Tensor counts_E = sums.narrow(0, 0, experts);
  const at::Tensor means = sums.narrow(0, experts, sums.numel() - experts).div_(static_cast<double>(group.size()));
  routing.counts_E.copy_(counts_E);
  routing.load_balance_loss.copy_((counts_E * means.narrow(0, 0, experts)).sum() / counts_E.sum() *
                                  static_cast<double>(experts));
  routing.z_loss.copy_(means.narrow(0, experts, 1));
  if (routing.entropy.defined()) routing.entropy.copy_(means[experts + 1]);
}

struct RouterFunction : torch::autograd::Function<RouterFunction> {
  struct State {
    at::Tensor x_TD, probabilities_TE, weights_TK, indices_TK, log_sum_exp_T, counts_E;
    const Parameter* weight;
    RouterSettings settings;
    Place place;
  };

  static variable_list forward(AutogradContext* context, const at::Tensor& x_TD, const Parameter* weight,
                               const RouterSettings& settings, Routing* routing, Place place) {
    const OperationScope scope("router", OperationPhase::kForward, place);
    const int64_t tokens = x_TD.size(0), experts = weight->value.size(0);
    const auto options = x_TD.options().dtype(accumulate_type(x_TD.scalar_type()));
    const at::Tensor probabilities_TE = at::mm(x_TD.to(options.dtype()), weight->master.t());
    const at::Tensor weights_TK = at::empty({tokens, settings.top_k}, options);
    const at::Tensor log_sum_exp_T = at::empty({tokens}, options), mean_probability_E = at::empty({experts}, options);
    routing->indices_TK = at::empty({tokens, settings.top_k}, options.dtype(at::kInt));
    routing->counts_E = at::empty({experts}, options.dtype(at::kLong));
    routing->load_balance_loss = at::empty({1}, options);
    routing->z_loss = at::empty({1}, options);

    kernels::RouterForward args;
    args.scalar = kernel_scalar(probabilities_TE);
    args.logits = probabilities_TE.data_ptr();
    args.probabilities = probabilities_TE.data_ptr();
    args.indices = routing->indices_TK.data_ptr<int32_t>();
    args.weights = weights_TK.data_ptr();
    args.log_sum_exp = log_sum_exp_T.data_ptr();
    args.counts = routing->counts_E.data_ptr<int64_t>();
    args.mean_probability = mean_probability_E.data_ptr();
    args.load_balance_loss = routing->load_balance_loss.data_ptr();
    args.z_loss = routing->z_loss.data_ptr();
    args.num_tokens = tokens;
    args.num_experts = experts;
    args.top_k = settings.top_k;
    args.normalization = settings.normalization;
    args.k_reference = settings.k_reference;
    args.top_p = settings.top_p;
    const at::Tensor workspace = MMOE_WORKSPACE(x_TD, router_forward, args);
    args.workspace = address(workspace);
    MMOE_LAUNCH(x_TD, router_forward, args);
    if (settings.measure_entropy) routing->entropy = at::special_entr(probabilities_TE).sum(1).mean();
    if (settings.ranks != nullptr) reduce_over_ranks(*settings.ranks, mean_probability_E, *routing);
    keep_state(context, State{x_TD.detach(), probabilities_TE, weights_TK, routing->indices_TK, log_sum_exp_T,
                              routing->counts_E, weight, settings, place});
    return {x_TD.detach(), weights_TK.detach()};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("router", OperationPhase::kBackward, state.place);
    const at::Tensor d_logits_TE = state.probabilities_TE;  // in place
    kernels::RouterBackward args;
    args.scalar = kernel_scalar(d_logits_TE);
    args.probabilities = d_logits_TE.data_ptr();
    args.indices = state.indices_TK.data_ptr<int32_t>();
    args.weights = state.weights_TK.data_ptr();
    args.log_sum_exp = state.log_sum_exp_T.data_ptr();
    args.counts = state.counts_E.data_ptr<int64_t>();
    args.d_weights = grads[1].data_ptr();
    args.d_logits = d_logits_TE.data_ptr();
    args.num_tokens = d_logits_TE.size(0);
    args.num_tokens_in_mean = args.num_tokens * (state.settings.ranks == nullptr ? 1 : state.settings.ranks->size());
    args.num_experts = d_logits_TE.size(1);
    args.top_k = state.settings.top_k;
    args.normalization = state.settings.normalization;
    args.k_reference = state.settings.k_reference;
    args.load_balance_coefficient = state.settings.load_balance_coefficient;
    args.z_loss_coefficient = state.settings.z_loss_coefficient;
    MMOE_LAUNCH(d_logits_TE, router_backward, args);

    add_weight_gradient(*state.weight, d_logits_TE, state.x_TD.to(d_logits_TE.scalar_type()));
    at::Tensor dx_TD = grads[0];
    if (dx_TD.scalar_type() == d_logits_TE.scalar_type()) {
      dx_TD.addmm_(d_logits_TE, state.weight->master);
    } else {
      at::Tensor sum_TD = dx_TD.to(d_logits_TE.scalar_type());  // add_ of two types would copy both
      dx_TD.copy_(sum_TD.addmm_(d_logits_TE, state.weight->master));
    }
    return {dx_TD, {}, {}, {}, {}};
  }
};

}  // namespace

Routing route(const at::Tensor& x_TD, const Parameter& weight_ED, const RouterSettings& settings, Place place) {
  Routing routing;
  variable_list outputs = RouterFunction::apply(x_TD, &weight_ED, settings, &routing, place);
  routing.x_TD = outputs[0];
  routing.weights_TK = outputs[1];
  return routing;
}

}  // namespace mmoe
