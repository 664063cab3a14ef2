#include "train/ops/mlp.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/swiglu/swiglu.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/swiglu/swiglu_cuda.h"
#endif
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"
#include "train/ops/split_tokens.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct MlpFunction : torch::autograd::Function<MlpFunction> {
  struct State {
    at::Tensor x_TD, gate_up_T2F;
    at::Tensor scale_T, row_T;  // with a gate: its value (accumulate type), and 0 .. T-1 (int32)
    MlpWeights weights;
    const char* operation;
    Place place;
  };

  static variable_list forward(AutogradContext* context, const at::Tensor& residual_TD, const at::Tensor& x_TD,
                               const MlpWeights& weights, const char* operation, Place place) {
    const OperationScope scope(operation, OperationPhase::kForward, place);
    at::Tensor all_TD = gather_tokens(x_TD, weights.tensor);
    State state{x_TD.detach(), product(all_TD, weights.gate_up->value.t()), {}, {}, weights, operation, place};
    if (weights.gate != nullptr) {
      const at::ScalarType type = accumulate_type(x_TD.scalar_type());
      state.scale_T = product(all_TD, weights.gate->value.t()).view({-1}).to(type).sigmoid();
      state.row_T = at::arange(all_TD.size(0), x_TD.options().dtype(at::kInt));
    }
    all_TD.reset();
    const at::Tensor a_TF = at::empty({state.gate_up_T2F.size(0), weights.down->value.size(1)}, x_TD.options());
    kernels::SwigluForward args;
    args.scalar = kernel_scalar(x_TD);
    args.gate_up = state.gate_up_T2F.data_ptr();
    args.weights = address(state.scale_T);
    args.pair_of_row = static_cast<const int32_t*>(address(state.row_T));
    args.a = a_TF.data_ptr();
    args.num_rows = a_TF.size(0);
    args.expert_hidden_size = a_TF.size(1);
    MMOE_LAUNCH(x_TD, swiglu_forward, args);
    keep_state(context, std::move(state));
    return {add_product(residual_TD, a_TF, weights.down->value, weights.tensor), x_TD.detach()};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope(state.operation, OperationPhase::kBackward, state.place);
    const at::Tensor& d_passed_TD = grads[1];
    const MlpWeights& weights = state.weights;
    at::Tensor d_out_TD = gather_tokens(grads[0], weights.tensor);
    const at::Tensor da_TF = product(d_out_TD, weights.down->value);
    const at::Tensor d_scale_T = weights.gate == nullptr ? at::Tensor() : at::empty_like(state.scale_T);
    kernels::SwigluBackward args;  // gate_up becomes its gradient, da the activation
    args.scalar = kernel_scalar(da_TF);
    args.da = args.a = da_TF.data_ptr();
    args.gate_up = args.d_gate_up = state.gate_up_T2F.data_ptr();
    args.weights = address(state.scale_T);
    args.pair_of_row = static_cast<const int32_t*>(address(state.row_T));
    args.d_weights = address(d_scale_T);
    args.num_rows = da_TF.size(0);
    args.expert_hidden_size = da_TF.size(1);
    MMOE_LAUNCH(da_TF, swiglu_backward, args);
    add_weight_gradient(*weights.down, d_out_TD, da_TF);
    d_out_TD.reset();
    at::Tensor d_logit_T1;
    if (weights.gate != nullptr) {
      d_logit_T1 = (d_scale_T * state.scale_T * (1 - state.scale_T)).to(da_TF.scalar_type()).view({-1, 1});
    }
    {
      const at::Tensor x_TD = gather_tokens(state.x_TD, weights.tensor);
      add_weight_gradient(*weights.gate_up, state.gate_up_T2F, x_TD);
      if (weights.gate != nullptr) add_weight_gradient(*weights.gate, d_logit_T1, x_TD);
    }
    const bool in_place = d_passed_TD.defined() && weights.tensor == nullptr;
    at::Tensor dx_TD = in_place ? d_passed_TD : product(state.gate_up_T2F, weights.gate_up->value);
    if (in_place) add_product_to(dx_TD, state.gate_up_T2F, weights.gate_up->value);
    if (weights.gate != nullptr) add_product_to(dx_TD, d_logit_T1, weights.gate->value);
    if (weights.tensor != nullptr) {
      dx_TD = scatter_sum(dx_TD, weights.tensor);
      if (d_passed_TD.defined()) dx_TD = at::Tensor(d_passed_TD).add_(dx_TD);
    }
    return {grads[0], dx_TD, {}, {}, {}};
  }
};

}  // namespace

MlpResult run_mlp(const at::Tensor& residual_TD, const at::Tensor& x_TD, const MlpWeights& weights,
                  const char* operation, Place place) {
  variable_list outputs = MlpFunction::apply(residual_TD, x_TD, weights, operation, place);
  return {outputs[0], outputs[1]};
}

}  // namespace mmoe
