#pragma once
// CUDA launchers of embedding.h: asynchronous on `stream`, pointers to device memory, the launch error returned.

#include <cuda_runtime_api.h>

#include "kernels/embedding/embedding.h"

namespace mmoe::kernels {

cudaError_t embedding_backward_cuda(const EmbeddingBackward& args, cudaStream_t stream);

// Bytes of device memory that `args.workspace` must point to.
size_t embedding_backward_cuda_workspace_size(const EmbeddingBackward& args);

}  // namespace mmoe::kernels
