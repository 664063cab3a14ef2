#pragma once
// CUDA launchers of rope.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/rope/rope.h"

namespace mmoe::kernels {

cudaError_t rope_cuda(const Rope& args, cudaStream_t stream);

}  // namespace mmoe::kernels
