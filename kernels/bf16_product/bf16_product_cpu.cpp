// Tiles of both operands are widened to fp32 into buffers of each thread, that of b in panels of two vectors' width;
// then blocks of rows by one panel are summed up in registers (Goto & van de Geijn 2008, ACM TOMS 34(3)).

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/bf16_product/bf16_product.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

constexpr int64_t kTileRows = 256, kTileColumns = 256, kTileDepth = 512;
constexpr int64_t kUnitColumns = 32;            // threads share out the columns in such units
constexpr int64_t kRowPitch = kTileDepth + 16;  // no power of two: rows at one depth lie in different sets of a cache
constexpr int64_t kDepthPitch = kTileRows + 16;

// 1.3 MiB, which fit in a second-level cache. As the buffers of a BLAS they belong to the thread and not to the call,
// so they are not taken from the allocator of workspaces.
struct Buffers {
  alignas(64) float a[std::max(kTileRows * kRowPitch, kTileDepth* kDepthPitch)];
  alignas(64) float b[kTileDepth * kTileColumns];
  alignas(64) float c[kTileRows * kTileColumns];
};
Buffers& thread_buffers() {
  thread_local const std::unique_ptr<Buffers> buffers(new Buffers);
  return *buffers;
}

// A vector unit: its width and the number of rows whose sums, two vectors each, fit in its registers.
template <int kBytes, int kRows>
struct Unit {
  typedef float Floats __attribute__((vector_size(kBytes)));
  typedef uint32_t Words __attribute__((vector_size(kBytes)));
  static constexpr int kLanes = kBytes / 4;
  static constexpr int kPanel = 2 * kLanes;
  static constexpr int kBlockRows = kRows;
};

// How a tile of a lies in its buffer: element (i, k) at i * kRowPitch + k, or at k * kDepthPitch + i.
enum class Order { kRows, kDepth };

template <Order kOrder>
MMOE_ALWAYS_INLINE float element(const float* a, int64_t i, int64_t k) {
  return kOrder == Order::kRows ? a[i * kRowPitch + k] : a[k * kDepthPitch + i];
}

// Puts the sums of one row in their place, or adds them to what is there.
template <class U>
MMOE_ALWAYS_INLINE void finish(typename U::Floats& low, typename U::Floats& high, bool adds, int64_t columns,
                               float* c) {
  if (columns >= U::kPanel) {
    if (adds) {
      typename U::Floats kept;
      std::memcpy(&kept, c, sizeof kept);
      low += kept;
      std::memcpy(&kept, c + U::kLanes, sizeof kept);
      high += kept;
    }
    std::memcpy(c, &low, sizeof low);
    std::memcpy(c + U::kLanes, &high, sizeof high);
    return;
  }
  float sums[U::kPanel];
  std::memcpy(sums, &low, sizeof low);
  std::memcpy(sums + U::kLanes, &high, sizeof high);
  for (int64_t j = 0; j < columns; ++j) c[j] = adds ? c[j] + sums[j] : sums[j];
}

// Rows `i...` of a times one panel of b.
template <class U, Order kOrder, int... i>
MMOE_ALWAYS_INLINE void multiply_block(std::integer_sequence<int, i...>, const float* a, const float* b, int64_t depth,
                                       bool adds, int64_t columns, float* c, int64_t c_stride) {
  using Floats = typename U::Floats;
  Floats low[sizeof...(i)] = {}, high[sizeof...(i)] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Floats b_low, b_high;
    std::memcpy(&b_low, b + k * U::kPanel, sizeof b_low);
    std::memcpy(&b_high, b + k * U::kPanel + U::kLanes, sizeof b_high);
    ((low[i] += element<kOrder>(a, i, k) * b_low, high[i] += element<kOrder>(a, i, k) * b_high), ...);
  }
  (finish<U>(low[i], high[i], adds, columns, c + i * c_stride), ...);
}

// The same for a number of rows known only now, from 1 to kRows.
template <class U, Order kOrder, int kRows>
MMOE_ALWAYS_INLINE void multiply_rows(int64_t rows, const float* a, const float* b, int64_t depth, bool adds,
                                      int64_t columns, float* c, int64_t c_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_rows<U, kOrder, kRows - 1>(rows, a, b, depth, adds, columns, c, c_stride);
  }
  multiply_block<U, kOrder>(std::make_integer_sequence<int, kRows>(), a, b, depth, adds, columns, c, c_stride);
}

// c [rows, columns], by blocks of nearly equal heights.
template <class U, Order kOrder>
MMOE_ALWAYS_INLINE void multiply_tile(const Buffers& buffers, int64_t rows, int64_t columns, int64_t depth, bool adds,
                                      float* c, int64_t c_stride) {
  const int64_t blocks = (rows + U::kBlockRows - 1) / U::kBlockRows;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = rows * block / blocks, last = rows * (block + 1) / blocks;
    const float* a = buffers.a + first * (kOrder == Order::kRows ? kRowPitch : 1);
    for (int64_t j = 0; j < columns; j += U::kPanel) {
      multiply_rows<U, kOrder, U::kBlockRows>(last - first, a, buffers.b + j * depth, depth, adds, columns - j,
                                              c + first * c_stride + j, c_stride);
    }
  }
}

// Swaps, in a square of words, the halves off the diagonal of every square of side 2 kDistance.
template <class U, int kDistance, int... lane>
MMOE_ALWAYS_INLINE void exchange(std::integer_sequence<int, lane...>, typename U::Words& upper,
                                 typename U::Words& lower) {
  const typename U::Words u = upper, l = lower;
  upper = __builtin_shufflevector(u, l, ((lane & kDistance) == 0 ? lane : lane - kDistance + U::kLanes)...);
  lower = __builtin_shufflevector(u, l, ((lane & kDistance) == 0 ? lane + kDistance : lane + U::kLanes)...);
}
template <class U, int kDistance, int... i>
MMOE_ALWAYS_INLINE void transpose(std::integer_sequence<int, i...> lanes, typename U::Words* rows) {
  (((i & kDistance) == 0 ? exchange<U, kDistance>(lanes, rows[i], rows[i | kDistance]) : void()), ...);
  if constexpr (kDistance > 1) transpose<U, kDistance / 2>(lanes, rows);
}

// Pairs of neighbouring depths to two rows of a panel.
template <class U>
MMOE_ALWAYS_INLINE void split(const typename U::Words& pairs, float* panel) {
  const typename U::Words first = pairs << 16, second = pairs & 0xffff0000u;
  std::memcpy(panel, &first, sizeof first);
  std::memcpy(panel + U::kPanel, &second, sizeof second);
}

// Two vectors' depths of one vector's width of columns, each contiguous and `stride` after the one before.
template <class U, int... i>
MMOE_ALWAYS_INLINE void widen_square(std::integer_sequence<int, i...> lanes, const bf16* b, int64_t stride,
                                     float* panel) {
  typename U::Words pairs[U::kLanes];  // of elements at neighbouring depths, the first in the lower half
  (std::memcpy(&pairs[i], b + i * stride, sizeof pairs[i]), ...);
  transpose<U, U::kLanes / 2>(lanes, pairs);
  (split<U>(pairs[i], panel + 2 * i * U::kPanel), ...);
}

// Columns of b, each of them contiguous and `stride` after the one before, to one vector's width of a panel.
template <class U>
MMOE_ALWAYS_INLINE void widen_columns(const bf16* b, int64_t stride, int64_t columns, int64_t depth, float* panel) {
  int64_t k = 0;
  if (columns >= U::kLanes) {
    for (; k + 2 * U::kLanes <= depth; k += 2 * U::kLanes) {
      widen_square<U>(std::make_integer_sequence<int, U::kLanes>(), b + k, stride, panel + k * U::kPanel);
    }
  }
  for (; k < depth; ++k) {
    for (int64_t j = 0; j < U::kLanes; ++j) panel[k * U::kPanel + j] = j < columns ? load(b[j * stride + k]) : 0;
  }
}

// b [depth, columns] to panels [depth, kPanel]; beyond its last column they are zero.
template <class U>
MMOE_ALWAYS_INLINE void widen_b(const Bf16Matrix& b, int64_t first_k, int64_t depth, int64_t first_column,
                                int64_t columns, float* panels) {
  const bf16* values = b.values + first_k * b.row_stride + first_column * b.column_stride;
  for (int64_t j = 0; j < columns; j += U::kPanel) {
    float* panel = panels + j * depth;
    const int64_t width = std::min<int64_t>(U::kPanel, columns - j);
    if (b.column_stride == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        const bf16* row = values + k * b.row_stride + j;
        if (width == U::kPanel) {
          widen(row, panel + k * U::kPanel, U::kPanel);
        } else {
          for (int64_t n = 0; n < U::kPanel; ++n) panel[k * U::kPanel + n] = n < width ? load(row[n]) : 0;
        }
      }
    } else {
      for (const int64_t half : {0, U::kLanes}) {
        widen_columns<U>(values + (j + half) * b.column_stride, b.column_stride, width - half, depth, panel + half);
      }
    }
  }
}

MMOE_ALWAYS_INLINE void widen_a(const Bf16Matrix& a, int64_t first_row, int64_t rows, int64_t first_k, int64_t depth,
                                float* tile) {
  const bf16* values = a.values + first_row * a.row_stride + first_k * a.column_stride;
  if (a.column_stride == 1) {
    for (int64_t i = 0; i < rows; ++i) widen(values + i * a.row_stride, tile + i * kRowPitch, depth);
  } else {
    for (int64_t k = 0; k < depth; ++k) widen(values + k * a.column_stride, tile + k * kDepthPitch, rows);
  }
}

// What threads share out: tiles of rows of nearly equal heights, each in units of columns.
struct Shares {
  explicit Shares(const Bf16Product& args)
      : row_tiles((args.num_rows + kTileRows - 1) / kTileRows),
        units((args.num_columns + kUnitColumns - 1) / kUnitColumns) {}
  int64_t row_tiles, units;
};

template <class U>
MMOE_ALWAYS_INLINE void multiply_shares(const Bf16Product& args, int64_t begin, int64_t end) {
  Buffers& buffers = thread_buffers();
  const Shares shares(args);
  int64_t widened_tile = -1;  // of a, in its buffer over the whole depth
  for (int64_t next = begin, count = 0; next < end; next += count) {
    const int64_t tile = next / shares.units, unit = next % shares.units;
    count = std::min({kTileColumns / kUnitColumns, shares.units - unit, end - next});
    const int64_t first_row = args.num_rows * tile / shares.row_tiles;
    const int64_t rows = args.num_rows * (tile + 1) / shares.row_tiles - first_row;
    const int64_t first_column = unit * kUnitColumns;
    const int64_t columns = std::min(count * kUnitColumns, args.num_columns - first_column);
    const bool to_sums = args.out == nullptr;
    float* c = to_sums ? args.sums + first_row * args.sums_stride + first_column : buffers.c;
    const int64_t c_stride = to_sums ? args.sums_stride : kTileColumns;
    int64_t k = 0;
    do {
      const int64_t depth = std::min(kTileDepth, args.depth - k);
      if (widened_tile != tile) widen_a(args.a, first_row, rows, k, depth, buffers.a);
      widened_tile = depth == args.depth ? tile : -1;
      widen_b<U>(args.b, k, depth, first_column, columns, buffers.b);
      const bool adds = k > 0 || (to_sums && !args.begins);
      args.a.column_stride == 1 ? multiply_tile<U, Order::kRows>(buffers, rows, columns, depth, adds, c, c_stride)
                                : multiply_tile<U, Order::kDepth>(buffers, rows, columns, depth, adds, c, c_stride);
      k += depth;
    } while (k < args.depth);
    if (to_sums) continue;
    for (int64_t i = 0; i < rows; ++i) {
      float* row = c + i * c_stride;
      if (args.base != nullptr) {
        const bf16* base = args.base + (first_row + i) * args.base_stride + first_column;
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j) row[j] += load(base[j]);
      }
      narrow(row, args.out + (first_row + i) * args.out_stride + first_column, columns);
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void multiply_avx512(const Bf16Product& args,
                                                                                            int64_t begin,
                                                                                            int64_t end) {
  multiply_shares<Unit<64, 12>>(args, begin, end);
}
__attribute__((target("avx2,fma"))) void multiply_avx2(const Bf16Product& args, int64_t begin, int64_t end) {
  multiply_shares<Unit<32, 6>>(args, begin, end);
}
#endif
void multiply_plain(const Bf16Product& args, int64_t begin, int64_t end) {
  multiply_shares<Unit<16, 4>>(args, begin, end);
}

auto choose_multiply() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return multiply_avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return multiply_avx2;
#endif
  return multiply_plain;
}

}  // namespace

void bf16_product_cpu(const Bf16Product& args) {
  static const auto multiply = choose_multiply();
  const Shares shares(args);
  constexpr int64_t kLeastSteps = int64_t{1} << 20;  // multiply-adds for which a thread is woken
  const int64_t steps = std::min(args.num_rows, kTileRows) * kUnitColumns * args.depth;
  parallel_for(0, shares.row_tiles * shares.units, std::max<int64_t>(1, kLeastSteps / std::max<int64_t>(steps, 1)),
               [&](int64_t begin, int64_t end) { multiply(args, begin, end); });
}

}  // namespace mmoe::kernels
