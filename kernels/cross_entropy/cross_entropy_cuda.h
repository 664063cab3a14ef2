#pragma once
// CUDA launchers of cross_entropy.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/cross_entropy/cross_entropy.h"

namespace mmoe::kernels {

cudaError_t cross_entropy_cuda(const CrossEntropy& args, cudaStream_t stream);

}  // namespace mmoe::kernels
