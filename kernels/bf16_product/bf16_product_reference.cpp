#include "kernels/bf16_product/bf16_product.h"
#include "kernels/types/scalar.h"

namespace mmoe::kernels {

void bf16_product_reference(const Bf16Product& args) {
  const auto at = [](const Bf16Matrix& matrix, int64_t i, int64_t j) {
    return load(matrix.values[i * matrix.row_stride + j * matrix.column_stride]);
  };
  for (int64_t i = 0; i < args.num_rows; ++i) {
    for (int64_t j = 0; j < args.num_columns; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < args.depth; ++k) sum += at(args.a, i, k) * at(args.b, k, j);
      if (args.out != nullptr) {
        const float base = args.base == nullptr ? 0 : load(args.base[i * args.base_stride + j]);
        args.out[i * args.out_stride + j] = store<bf16>(sum + base);
      } else {
        float& kept = args.sums[i * args.sums_stride + j];
        kept = args.begins ? sum : kept + sum;
      }
    }
  }
}

}  // namespace mmoe::kernels
