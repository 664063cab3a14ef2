#pragma once
// Activation recomputation: a part of the model that keeps only its input and runs again in the backward pass.

#include <ATen/core/Tensor.h>

#include <functional>

namespace mmoe {

// part(x), with nothing kept but x. `part` must compute the same result both times.
at::Tensor recompute(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> part);

}  // namespace mmoe
