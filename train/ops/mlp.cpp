#include "train/ops/mlp.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "kernels/swiglu/swiglu.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/swiglu/swiglu_cuda.h"
#endif
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct MlpFunction : torch::autograd::Function<MlpFunction> {
  struct State {
    at::Tensor x_TD, gate_up_T2F;
    const Parameter *gate_up, *down;
    const char* operation;
    Place place;
  };

  static variable_list forward(AutogradContext* context, const at::Tensor& residual_TD, const at::Tensor& x_TD,
                               const Parameter* gate_up, const Parameter* down, const char* operation, Place place) {
    const OperationScope scope(operation, OperationPhase::kForward, place);
    State state{x_TD.detach(), at::mm(x_TD, gate_up->value.t()), gate_up, down, operation, place};
    const at::Tensor a_TF = at::empty({x_TD.size(0), down->value.size(1)}, x_TD.options());
    kernels::SwigluForward args;
    args.scalar = kernel_scalar(x_TD);
    args.gate_up = state.gate_up_T2F.data_ptr();
    args.a = a_TF.data_ptr();
    args.num_rows = a_TF.size(0);
    args.expert_hidden_size = a_TF.size(1);
    MMOE_LAUNCH(x_TD, swiglu_forward, args);
    keep_state(context, std::move(state));
    return {at::addmm(residual_TD, a_TF, down->value.t()), x_TD.detach()};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope(state.operation, OperationPhase::kBackward, state.place);
    const at::Tensor &d_out_TD = grads[0], &d_passed_TD = grads[1];
    const at::Tensor da_TF = at::mm(d_out_TD, state.down->value);
    kernels::SwigluBackward args;  // gate_up becomes its gradient, da the activation
    args.scalar = kernel_scalar(da_TF);
    args.da = args.a = da_TF.data_ptr();
    args.gate_up = args.d_gate_up = state.gate_up_T2F.data_ptr();
    args.num_rows = da_TF.size(0);
    args.expert_hidden_size = da_TF.size(1);
    MMOE_LAUNCH(da_TF, swiglu_backward, args);
    add_weight_gradient(state.down->grad, d_out_TD, da_TF);
    add_weight_gradient(state.gate_up->grad, state.gate_up_T2F, state.x_TD);
    const at::Tensor dx_TD = d_passed_TD.defined() ? d_passed_TD.addmm_(state.gate_up_T2F, state.gate_up->value)
                                                   : at::mm(state.gate_up_T2F, state.gate_up->value);
    return {d_out_TD, dx_TD, {}, {}, {}, {}};
  }
};

}  // namespace

MlpResult run_mlp(const at::Tensor& residual_TD, const at::Tensor& x_TD, const Parameter& gate_up,
                  const Parameter& down, const char* operation, Place place) {
  variable_list outputs = MlpFunction::apply(residual_TD, x_TD, &gate_up, &down, operation, place);
  return {outputs[0], outputs[1]};
}

}  // namespace mmoe
