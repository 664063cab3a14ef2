#include "train/ops/norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/rms_norm/rms_norm.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/rms_norm/rms_norm_cuda.h"
#endif
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NormFunction : torch::autograd::Function<NormFunction> {
  struct State {
    at::Tensor x_TD, rstd_T;
    const Parameter* weight;
    Place place;
  };

  static variable_list forward(AutogradContext* context, const at::Tensor& x_TD, const Parameter* weight,
                               double epsilon, Place place) {
    const OperationScope scope("norm", OperationPhase::kForward, place);
    const at::Tensor y_TD = at::empty_like(x_TD);
    const at::Tensor rstd_T = at::empty({x_TD.size(0)}, x_TD.options().dtype(accumulate_type(x_TD.scalar_type())));
    kernels::RmsNormForward args;
    args.scalar = kernel_scalar(x_TD);
    args.x = x_TD.data_ptr();
    args.weight = weight->value.data_ptr();
    args.y = y_TD.data_ptr();
    args.rstd = rstd_T.data_ptr();
    args.num_vectors = x_TD.size(0);
    args.size = args.x_stride = args.y_stride = x_TD.size(1);
    args.epsilon = epsilon;
    MMOE_LAUNCH(x_TD, rms_norm_forward, args);
    keep_state(context, State{x_TD.detach(), rstd_T, weight, place});
    return {x_TD.detach(), y_TD};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("norm", OperationPhase::kBackward, state.place);
    const at::Tensor d_residual_TD = grads[0];
    at::Tensor d_normed_TD = std::move(grads[1]);
    const at::Tensor dx_TD = d_residual_TD.defined() ? d_residual_TD : d_normed_TD;
    kernels::RmsNormBackward args;
    args.scalar = kernel_scalar(state.x_TD);
    args.dy = d_normed_TD.data_ptr();
    args.x = state.x_TD.data_ptr();
    args.weight = state.weight->value.data_ptr();
    args.rstd = state.rstd_T.data_ptr();
    args.d_residual = address(d_residual_TD);
    args.dx = dx_TD.data_ptr();
    args.d_weight = summed_gradient(*state.weight).data_ptr();
    args.num_vectors = state.x_TD.size(0);
    args.size = args.dy_stride = args.x_stride = args.dx_stride = state.x_TD.size(1);
    const at::Tensor workspace = MMOE_WORKSPACE(state.x_TD, rms_norm_backward, args);
    args.workspace = address(workspace);
    MMOE_LAUNCH(state.x_TD, rms_norm_backward, args);
    return {dx_TD, {}, {}, {}};
  }
};

}  // namespace

Normed rms_norm(const at::Tensor& x_TD, const Parameter& weight_D, double epsilon, Place place) {
  variable_list outputs = NormFunction::apply(x_TD, &weight_D, epsilon, place);
  return {outputs[0], outputs[1]};
}

}  // namespace mmoe
