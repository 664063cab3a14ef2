#pragma once
// Joins kernels/ to LibTorch: its thread pool, its allocator, its tensors.

#include <ATen/core/Tensor.h>

#include "kernels/types/scalar.h"

namespace mmoe {

// Gives kernels/ LibTorch's thread pool and the CPU allocator in force (so that scratch memory is counted).
void install_kernel_runtime();

// The kernels' name of a tensor's type. Throws std::logic_error for types that the trainer does not use.
kernels::Scalar kernel_scalar(const at::Tensor& tensor);

// fp32 for fp32 and bf16, fp64 for fp64.
at::ScalarType accumulate_type(at::ScalarType type);

}  // namespace mmoe
