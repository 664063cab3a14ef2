#include "train/ops/loss_head.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cross_entropy/cross_entropy.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/cross_entropy/cross_entropy_cuda.h"
#endif
#include "sim/memory/chunks.h"
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Writes losses_T; with a gradient tensor also dx_TD and the weight's gradient.
void run_chunks(const at::Tensor& x_TD, const Parameter& weight, const at::Tensor& targets_T, double scale,
                const at::Tensor& losses_T, const at::Tensor& dx_TD) {
  const int64_t tokens = x_TD.size(0), vocab = weight.value.size(0), chunk = loss_chunk_rows(tokens, vocab);
  const at::Tensor buffer_RV = at::empty({chunk, vocab}, x_TD.options());
  for (int64_t first = 0; first < tokens; first += chunk) {
    const int64_t count = std::min(chunk, tokens - first);
    const at::Tensor logits_RV = buffer_RV.narrow(0, 0, count), x_RD = x_TD.narrow(0, first, count);
    product_into(logits_RV, x_RD, weight.value.t());
    kernels::CrossEntropy args;
    args.scalar = kernel_scalar(x_TD);
    args.logits = logits_RV.data_ptr();
    args.targets = targets_T.data_ptr<int32_t>() + first;
    args.loss = losses_T.narrow(0, first, count).data_ptr();
    args.num_rows = count;
    args.vocab_size = args.stride = vocab;
    args.scale = scale;
    args.gradient = dx_TD.defined() ? kernels::LogitsGradient::kInPlace : kernels::LogitsGradient::kOmit;
    MMOE_LAUNCH(x_TD, cross_entropy, args);
    if (dx_TD.defined()) {
      product_into(dx_TD.narrow(0, first, count), logits_RV, weight.value);
      add_weight_gradient(weight, logits_RV, x_RD);
    }
  }
}

at::Tensor empty_losses(const at::Tensor& x_TD) {
  return at::empty({x_TD.size(0)}, x_TD.options().dtype(accumulate_type(x_TD.scalar_type())));
}

struct LossHeadFunction : torch::autograd::Function<LossHeadFunction> {
  struct State {
    at::Tensor dx_TD;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_TD, const Parameter* weight,
                            const at::Tensor& targets_T, double scale, const at::Tensor& losses_T) {
    const OperationScope scope("loss_head", OperationPhase::kForward, {});
    State state{at::empty_like(x_TD)};
    run_chunks(x_TD, *weight, targets_T, scale, losses_T, state.dx_TD);
    keep_state(context, std::move(state));
    return losses_T.sum() * scale;
  }

  static variable_list backward(AutogradContext* context, variable_list /*grads: 1*/) {
    return {take_state<State>(context).dx_TD, {}, {}, {}, {}};
  }
};

}  // namespace

LossHeadResult loss_head(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T,
                         double scale) {
  const at::Tensor losses_T = empty_losses(x_TD);
  return {LossHeadFunction::apply(x_TD, &weight_VD, targets_T, scale, losses_T), losses_T};
}

at::Tensor token_losses(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T) {
  const at::Tensor losses_T = empty_losses(x_TD);
  run_chunks(x_TD, weight_VD, targets_T, 1, losses_T, {});
  return losses_T;
}

}  // namespace mmoe
