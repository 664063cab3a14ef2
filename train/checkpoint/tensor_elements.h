#pragma once
// Elements of tensors that lie in mapped files, converted to another floating-point type while they are written.

#include <ATen/core/Tensor.h>

#include "train/checkpoint/safetensors.h"

namespace mmoe {

at::ScalarType scalar_type(SafetensorsDtype dtype);
SafetensorsDtype safetensors_dtype(at::ScalarType type);

// A stored tensor without a copy, unless its bytes are unaligned. Valid as long as its file. Only floating-point types.
at::Tensor stored_tensor(const SafetensorsView& view);

// Hands the elements of `tensor` [rows, ...] to the sink, row by row and in `type`, a few MiB at a time.
void write_elements(const at::Tensor& tensor, at::ScalarType type, const ByteSink& sink);

}  // namespace mmoe
