#include "train/checkpoint/tensor_elements.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>

#include "sim/units/errors.h"

namespace mmoe {

at::ScalarType scalar_type(SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::kF64:
      return at::kDouble;
    case SafetensorsDtype::kF32:
      return at::kFloat;
    case SafetensorsDtype::kF16:
      return at::kHalf;
    case SafetensorsDtype::kBF16:
      return at::kBFloat16;
    default:
      MMOE_CHECK(false) << "no floating-point type: " << dtype_name(dtype);
      return at::kFloat;
  }
}

SafetensorsDtype safetensors_dtype(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return SafetensorsDtype::kF64;
    case at::kHalf:
      return SafetensorsDtype::kF16;
    case at::kBFloat16:
      return SafetensorsDtype::kBF16;
    default:
      MMOE_CHECK(type == at::kFloat) << "no type of weights: " << c10::toString(type);
      return SafetensorsDtype::kF32;
  }
}

at::Tensor stored_tensor(const SafetensorsView& view) {
  const auto options = at::TensorOptions().dtype(scalar_type(view.dtype));
  if (view.is_aligned()) return at::from_blob(const_cast<std::byte*>(view.data), view.shape, options);
  const at::Tensor copy = at::empty(view.shape, options);
  std::memcpy(copy.data_ptr(), view.data, view.bytes);
  return copy;
}

void write_elements(const at::Tensor& tensor, at::ScalarType type, const ByteSink& sink) {
  if (tensor.numel() == 0) return;
  constexpr int64_t kElements = int64_t{1} << 20;
  const int64_t rows = tensor.size(0), step = std::max<int64_t>(1, kElements / (tensor.numel() / rows));
  for (int64_t first = 0; first < rows; first += step) {
    const at::Tensor piece = tensor.narrow(0, first, std::min(step, rows - first)).to(type).contiguous();
    sink(piece.data_ptr(), static_cast<size_t>(piece.nbytes()));
  }
}

}  // namespace mmoe
