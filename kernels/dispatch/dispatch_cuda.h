#pragma once
// CUDA launchers of dispatch.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/dispatch/dispatch.h"

namespace mmoe::kernels {

cudaError_t dispatch_cuda(const Dispatch& args, cudaStream_t stream);

// Bytes of device memory that `args.workspace` must point to.
size_t dispatch_cuda_workspace_size(const Dispatch& args);

}  // namespace mmoe::kernels
