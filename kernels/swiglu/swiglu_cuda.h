#pragma once
// CUDA launchers of swiglu.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/swiglu/swiglu.h"

namespace mmoe::kernels {

cudaError_t swiglu_forward_cuda(const SwigluForward& args, cudaStream_t stream);

cudaError_t swiglu_backward_cuda(const SwigluBackward& args, cudaStream_t stream);

}  // namespace mmoe::kernels
