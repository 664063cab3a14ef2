#include "train/ops/recompute.h"

#include <torch/csrc/autograd/autograd.h>

#include "train/ops/saved_state.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Part = std::function<at::Tensor(const at::Tensor&)>;

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  struct State {
    at::Tensor x;
    Part part;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Part& part) {
    keep_state(context, State{x.detach(), part});
    return part(x.detach());
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    State state = take_state<State>(context);
    state.x.set_requires_grad(true);
    at::Tensor y;
    {
      const at::AutoGradMode grad_mode(true);
      const RecomputeMark mark;
      y = state.part(state.x);
    }
    const variable_list dx = torch::autograd::grad({std::exchange(y, {})}, {state.x}, {std::move(grads[0])});
    return {dx[0], {}};
  }
};

}  // namespace

at::Tensor recompute(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> part) {
  return RecomputeFunction::apply(x, part);
}

}  // namespace mmoe
