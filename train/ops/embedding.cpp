#include "train/ops/embedding.h"

#include <ATen/ops/empty.h>

#include "kernels/embedding/embedding.h"
#include "kernels/gather/gather.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/gather/gather_cuda.h"
#endif
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  struct State {
    at::Tensor tokens_T;
    const Parameter* weight;
  };

  // `value_VD` is the weight's own tensor: as the chain's first input it is what makes autograd record the graph.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& value_VD, const at::Tensor& tokens_T,
                            const Parameter* weight) {
    const OperationScope scope("embedding", OperationPhase::kForward, {});
    const at::Tensor x_TD = at::empty({tokens_T.size(0), value_VD.size(1)}, value_VD.options());
    kernels::Gather args;
    args.scalar = kernel_scalar(value_VD);
    args.x = value_VD.data_ptr();
    args.index = tokens_T.data_ptr<int32_t>();
    args.rows = x_TD.data_ptr();
    args.num_rows = tokens_T.size(0);
    args.size = value_VD.size(1);
    MMOE_LAUNCH(value_VD, gather, args);
    keep_state(context, State{tokens_T, weight});
    return x_TD;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("embedding", OperationPhase::kBackward, {});
    const at::Tensor& dx_TD = grads[0];
    kernels::EmbeddingBackward args;
    args.scalar = kernel_scalar(dx_TD);
    args.dx = dx_TD.data_ptr();
    args.tokens = state.tokens_T.data_ptr<int32_t>();
    args.d_weight = state.weight->grad.data_ptr();
    args.num_tokens = state.tokens_T.size(0);
    args.vocab_size = state.weight->value.size(0);
    args.size = state.weight->value.size(1);
    const at::Tensor workspace = MMOE_WORKSPACE(dx_TD, embedding_backward, args);
    args.workspace = address(workspace);
    MMOE_LAUNCH(dx_TD, embedding_backward, args);
    return {{}, {}, {}};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD) {
  // A detached alias that requires a gradient: the gradient itself goes into weight_VD.grad.
  at::Tensor value_VD = weight_VD.value.detach();
  value_VD.set_requires_grad(weight_VD.grad.defined());
  return EmbeddingFunction::apply(value_VD, tokens_T, &weight_VD);
}

}  // namespace mmoe
