#pragma once
// The token embedding.

#include <ATen/core/Tensor.h>

#include <functional>

#include "train/model/parameters.h"

namespace mmoe {

// x_TD = weight_VD[tokens_T]; tokens int32. Keeps the tokens.
at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD);

// The same; `done` runs at the end of the backward pass, once the weight's gradient is added.
at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD, std::function<void()> done);

}  // namespace mmoe
