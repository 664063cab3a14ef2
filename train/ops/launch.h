#pragma once
// Calls the CPU or the CUDA version of a kernel by where its tensors live; on meta tensors, which have no values, none.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "sim/units/errors.h"
#include "train/ops/stand_in.h"

#ifdef MMOE_WITH_CUDA
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

namespace mmoe::internal {
inline void check_launch(cudaError_t error, const char* kernel) {
  MMOE_CHECK(error == cudaSuccess) << "CUDA kernel " << kernel << ": " << cudaGetErrorString(error);
}
}  // namespace mmoe::internal

// MMOE_LAUNCH(like, name, args): kernels::name_cpu(args), or kernels::name_cuda(args, stream) where `like` is on CUDA.
#define MMOE_LAUNCH(like, name, args)                                                                             \
  ((like).is_meta() ? void()                                                                                      \
   : (like).is_cuda()                                                                                             \
       ? ::mmoe::internal::check_launch(                                                                          \
             ::mmoe::kernels::name##_cuda(args, c10::cuda::getCurrentCUDAStream((like).device().index())), #name) \
       : void(::mmoe::kernels::name##_cpu(args)))
// Device scratch memory of `name`; undefined on the CPU, where the kernel takes its own from the counted allocator.
#define MMOE_WORKSPACE(like, name, args)                                                                            \
  (::mmoe::runs_on_gpu(like) ? at::empty({static_cast<int64_t>(::mmoe::kernels::name##_cuda_workspace_size(args))}, \
                                         (like).options().dtype(at::kByte))                                         \
                             : at::Tensor())
#else
#define MMOE_LAUNCH(like, name, args) ((like).is_meta() ? void() : void(::mmoe::kernels::name##_cpu(args)))
#define MMOE_WORKSPACE(like, name, args) (at::Tensor())
#endif

namespace mmoe {

// The address of a tensor's first element, null for an undefined tensor.
inline void* address(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

}  // namespace mmoe
