#pragma once
// The token embedding.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"

namespace mmoe {

// x_TD = weight_VD[tokens_T]; tokens int32. Keeps the tokens.
at::Tensor embed(const at::Tensor& tokens_T, const Parameter& weight_VD);

}  // namespace mmoe
