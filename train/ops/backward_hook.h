#pragma once
// Calls back when the backward pass comes to a place in the model.

#include <ATen/core/Tensor.h>

#include <functional>

namespace mmoe {

// x itself; `reached` runs in the backward pass once the gradient of x is there, so once all that x went into has added
// its weight gradients. Keeps nothing.
at::Tensor on_backward(const at::Tensor& x, std::function<void()> reached);

}  // namespace mmoe
