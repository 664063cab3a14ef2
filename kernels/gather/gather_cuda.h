#pragma once
// CUDA launchers of gather.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/gather/gather.h"

namespace mmoe::kernels {

cudaError_t gather_cuda(const Gather& args, cudaStream_t stream);

}  // namespace mmoe::kernels
