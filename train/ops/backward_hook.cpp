#include "train/ops/backward_hook.h"

#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct HookFunction : torch::autograd::Function<HookFunction> {
  struct State {
    std::function<void()> reached;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::function<void()>& reached) {
    keep_state(context, State{reached});
    return x.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    take_state<State>(context).reached();
    return {grads[0], {}};
  }
};

}  // namespace

at::Tensor on_backward(const at::Tensor& x, std::function<void()> reached) {
  return HookFunction::apply(x, std::move(reached));
}

}  // namespace mmoe
