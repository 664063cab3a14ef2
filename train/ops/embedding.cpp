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
    std::function<void()> done;
  };

  // `leaf` has no elements: as the chain's first input it is what makes autograd record the graph, and it keeps no
  // weight alive.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& /*leaf*/, const at::Tensor& tokens_T,
                            const Parameter* weight, const std::function<void()>& done) {
    const OperationScope scope("embedding", OperationPhase::kForward, {});
    const at::Tensor& value_VD = weight->value;
    const at::Tensor x_TD = at::empty({tokens_T.size(0), value_VD.size(1)}, value_VD.options());
    kernels::Gather args;
    args.scalar = kernel_scalar(value_VD);
    args.x = value_VD.data_ptr();
    args.index = tokens_T.data_ptr<int32_t>();
    args.rows = x_TD.data_ptr();
    args.num_rows = tokens_T.size(0);
    args.size = value_VD.size(1);
    MMOE_LAUNCH(value_VD, gather, args);
    keep_state(context, State{tokens_T, weight, done});
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
    args.d_weight = summed_gradient(*state.weight).data_ptr();
    args.num_tokens = state.tokens_T.size(0);
    args.vocab_size = state.weight->grad.size(0);
    args.size = state.weight->grad.size(1);
    const at::Tensor workspace = MMOE_WORKSPACE(dx_TD, embedding_backward, args);
    args.workspace = address(workspace);
    MMOE_LAUNCH(dx_TD, embedding_backward, args);
    if (state.done) state.done();
    return {{}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD) { return embed(tokens_T, weight_VD, {}); }

at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD, std::function<void()> done) {
  at::Tensor leaf = at::empty({0}, weight_VD.value.options());
  leaf.set_requires_grad(true);
  return EmbeddingFunction::apply(leaf, tokens_T, &weight_VD, done);
}

}  // namespace mmoe
