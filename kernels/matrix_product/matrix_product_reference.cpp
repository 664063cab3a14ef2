#include "kernels/matrix_product/matrix_product.h"

namespace mmoe::kernels {
namespace {

template <class T>
void product(const MatrixProduct& args) {
  const auto at = [](const MatrixView& matrix, int64_t i, int64_t j) {
    return load(static_cast<const T*>(matrix.values)[i * matrix.row_stride + j * matrix.column_stride]);
  };
  for (int64_t i = 0; i < args.num_rows; ++i) {
    for (int64_t j = 0; j < args.num_columns; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < args.depth; ++k) sum += at(args.a, i, k) * at(args.b, k, j);
      if (args.out != nullptr) {
        const auto* base = static_cast<const T*>(args.base);
        if (base != nullptr) sum += load(base[i * args.base_stride + j]);
        static_cast<T*>(args.out)[i * args.out_stride + j] = store<T>(sum);
      } else {
        float& kept = args.sums[i * args.sums_stride + j];
        kept = args.begins ? sum : kept + sum;
      }
    }
  }
}

}  // namespace

void matrix_product_reference(const MatrixProduct& args) {
  args.scalar == Scalar::kBFloat16 ? product<bf16>(args) : product<float>(args);
}

}  // namespace mmoe::kernels
