#pragma once
// CUDA launchers of combine.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/combine/combine.h"

namespace mmoe::kernels {

cudaError_t combine_cuda(const Combine& args, cudaStream_t stream);

cudaError_t scatter_add_rows_cuda(const ScatterAddRows& args, cudaStream_t stream);

}  // namespace mmoe::kernels
