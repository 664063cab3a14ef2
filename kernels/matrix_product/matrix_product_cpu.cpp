#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/matrix_product/matrix_product.h"
#include "kernels/matrix_product/tiles.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

constexpr int64_t kTileRows = 256, kTileColumns = 256, kTileDepth = 512;
constexpr int64_t kUnitColumns = 32;  // threads share out the columns in such units
// No powers of two: neighbours lie in different sets of a cache.
template <class U>
constexpr int64_t kRowPitch = steps_of<U>(kTileDepth) + 16;
constexpr int64_t kStepPitch = kTileRows + 16;

// Up to 1.3 MiB, which fit in a second-level cache.
template <class U>
struct Buffers {
  using Step = typename U::Step;
  alignas(64) Step a[std::max(kTileRows * kRowPitch<U>, steps_of<U>(kTileDepth) * kStepPitch)];
  alignas(64) Step b[steps_of<U>(kTileDepth) * kTileColumns];
  alignas(64) float c[kTileRows * kTileColumns];
};
// What threads share out: tiles of rows of nearly equal heights, each in units of columns.
struct Shares {
  explicit Shares(const MatrixProduct& args)
      : row_tiles((args.num_rows + kTileRows - 1) / kTileRows),
        units((args.num_columns + kUnitColumns - 1) / kUnitColumns) {}
  int64_t row_tiles, units;
};

template <class U>
MMOE_ALWAYS_INLINE void multiply_shares(const MatrixProduct& args, int64_t begin, int64_t end) {
  using Value = typename U::Value;
  constexpr bool kIsFp32 = std::is_same_v<Value, float>;
  Buffers<U>& buffers = thread_buffers<Buffers<U>>();
  const Shares shares(args);
  const auto* base = static_cast<const Value*>(args.base);
  auto* out = static_cast<Value*>(args.out);
  int64_t packed_tile = -1;  // of a, in its buffer over the whole depth
  for (int64_t next = begin, count = 0; next < end; next += count) {
    const int64_t tile = next / shares.units, unit = next % shares.units;
    count = std::min({kTileColumns / kUnitColumns, shares.units - unit, end - next});
    const int64_t first_row = args.num_rows * tile / shares.row_tiles;
    const int64_t rows = args.num_rows * (tile + 1) / shares.row_tiles - first_row;
    const int64_t first_column = unit * kUnitColumns;
    const int64_t columns = std::min(count * kUnitColumns, args.num_columns - first_column);
    // Of fp32 a result is a sum that begins with its base.
    float* c = buffers.c;
    int64_t c_stride = kTileColumns;
    bool goes_on = false;
    if (out == nullptr) {
      c_stride = args.sums_stride;
      c = args.sums + first_row * c_stride + first_column;
      goes_on = !args.begins;
    } else if constexpr (kIsFp32) {
      c_stride = args.out_stride;
      c = out + first_row * c_stride + first_column;
      goes_on = base != nullptr;
      for (int64_t i = 0; i < rows && goes_on && base != out; ++i) {
        std::memcpy(c + i * c_stride, base + (first_row + i) * args.base_stride + first_column,
                    static_cast<size_t>(columns) * sizeof(float));
      }
    }
    int64_t k = 0;
    do {
      const int64_t depth = std::min(kTileDepth, args.depth - k);
      if (packed_tile != tile) pack_a<U, kRowPitch<U>, kStepPitch>(args.a, first_row, rows, k, depth, buffers.a);
      packed_tile = depth == args.depth ? tile : -1;
      pack_b<U>(args.b, k, depth, first_column, columns, buffers.b);
      const bool adds = k > 0 || goes_on;
      const int64_t steps = steps_of<U>(depth);
      if (args.a.column_stride == 1) {
        multiply_tile<U, Order::kRows, kRowPitch<U>>(buffers.a, buffers.b, steps, rows, columns, steps, adds, c,
                                                     c_stride);
      } else {
        multiply_tile<U, Order::kSteps, kStepPitch>(buffers.a, buffers.b, steps, rows, columns, steps, adds, c,
                                                    c_stride);
      }
      k += depth;
    } while (k < args.depth);
    if (kIsFp32 || out == nullptr) continue;
    for (int64_t i = 0; i < rows; ++i) {
      float* row = c + i * c_stride;
      if (base != nullptr) {
        const Value* base_row = base + (first_row + i) * args.base_stride + first_column;
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j) row[j] += load(base_row[j]);
      }
      narrow(row, out + (first_row + i) * args.out_stride + first_column, columns);
    }
  }
}

MMOE_UNIT_FUNCTION(choose_multiply, multiply_shares, MatrixProduct)

}  // namespace

void matrix_product_cpu(const MatrixProduct& args) {
  const auto multiply = args.scalar == Scalar::kBFloat16 ? choose_multiply<bf16>() : choose_multiply<float>();
  const Shares shares(args);
  constexpr int64_t kLeastSteps = int64_t{1} << 20;  // multiply-adds for which a thread is woken
  const int64_t steps = std::min(args.num_rows, kTileRows) * kUnitColumns * args.depth;
  parallel_for(0, shares.row_tiles * shares.units, std::max<int64_t>(1, kLeastSteps / std::max<int64_t>(steps, 1)),
               [&](int64_t begin, int64_t end) { multiply(args, begin, end); });
}

}  // namespace mmoe::kernels
