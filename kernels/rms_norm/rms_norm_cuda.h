#pragma once
// CUDA launchers of rms_norm.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/rms_norm/rms_norm.h"

namespace mmoe::kernels {

cudaError_t rms_norm_forward_cuda(const RmsNormForward& args, cudaStream_t stream);

cudaError_t rms_norm_backward_cuda(const RmsNormBackward& args, cudaStream_t stream);

// Bytes of device memory that `args.workspace` must point to.
size_t rms_norm_backward_cuda_workspace_size(const RmsNormBackward& args);

}  // namespace mmoe::kernels
