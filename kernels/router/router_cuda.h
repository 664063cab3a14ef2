#pragma once
// CUDA launchers of router.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/router/router.h"

namespace mmoe::kernels {

cudaError_t router_forward_cuda(const RouterForward& args, cudaStream_t stream);

// Bytes of device memory that `args.workspace` must point to.
size_t router_forward_cuda_workspace_size(const RouterForward& args);

cudaError_t router_backward_cuda(const RouterBackward& args, cudaStream_t stream);

}  // namespace mmoe::kernels
