#include "train/ops/parallel.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include "kernels/parallel/parallel.h"
#include "kernels/workspace/workspace.h"
#include "sim/units/errors.h"

namespace mmoe {

void install_kernel_runtime() {
  kernels::set_parallel_for(
      [](int64_t begin, int64_t end, int64_t grain, void* context, void (*body)(void*, int64_t, int64_t)) {
        at::parallel_for(begin, end, grain, [&](int64_t b, int64_t e) { body(context, b, e); });
      });
  kernels::set_allocator([](size_t bytes) { return c10::GetCPUAllocator()->raw_allocate(bytes); },
                         [](void* pointer) { c10::GetCPUAllocator()->raw_deallocate(pointer); });
}

kernels::Scalar kernel_scalar(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return kernels::Scalar::kFloat64;
    case at::kFloat:
      return kernels::Scalar::kFloat32;
    case at::kBFloat16:
      return kernels::Scalar::kBFloat16;
    default:
      MMOE_CHECK(false) << "no kernel takes " << c10::toString(tensor.scalar_type());
      return kernels::Scalar::kFloat32;
  }
}

at::ScalarType accumulate_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace mmoe
