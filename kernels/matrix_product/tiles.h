#pragma once
// The parts of a product of matrices: tiles of both operands are packed, that of b in panels of two vectors' width;
// then blocks of rows by one panel are summed up in registers (Goto & van de Geijn 2008, ACM TOMS 34(3)). A packed
// element is a step of the sums: one depth in fp32, or of bf16 a pair of depths as they are where the processor has dot
// products of them that are faster than fp32. All of it is compiled into the functions that call it, for their target.

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "kernels/matrix_product/matrix_product.h"
#include "kernels/simd/simd.h"
#include "kernels/simd/vector_unit.h"

namespace mmoe::kernels {

// Buffers of the calling thread. As those of a BLAS they belong to the thread and not to the call, so they are not
// taken from the allocator of workspaces.
template <class Buffers>
Buffers& thread_buffers() {
  thread_local const std::unique_ptr<Buffers> buffers(new Buffers);
  return *buffers;
}

// A vector unit: its width, the number of rows whose sums, two vectors each, fit in its registers, and the matrices'
// type.
template <int kBytes, int kRows, class T>
struct Unit {
  using Value = T;
  typedef float Floats __attribute__((vector_size(kBytes)));
  typedef uint32_t Words __attribute__((vector_size(kBytes)));
  static constexpr int kLanes = kBytes / 4;
  static constexpr int kPanel = 2 * kLanes;
  static constexpr int kBlockRows = kRows;

  // Two vectors' bits, one vector after the other in memory.
  static MMOE_ALWAYS_INLINE void read_pair(const void* x, Floats& low, Floats& high) {
    std::memcpy(&low, x, kBytes);
    std::memcpy(&high, static_cast<const char*>(x) + kBytes, kBytes);
  }
  static MMOE_ALWAYS_INLINE void write_pair(const Floats& low, const Floats& high, void* x) {
    std::memcpy(x, &low, kBytes);
    std::memcpy(static_cast<char*>(x) + kBytes, &high, kBytes);
  }

  // A step of one depth.
  using Step = float;
  static constexpr int64_t kDepths = 1;
  static MMOE_ALWAYS_INLINE void add_product(float a, const float* b, Floats& low, Floats& high) {
    Floats b_low, b_high;
    read_pair(b, b_low, b_high);
    low += a * b_low;
    high += a * b_high;
  }
};

#if defined(__x86_64__)
// AVX-512's dot products of pairs, subnormal numbers taken as zero (Intel SDM, VDPBF16PS). The instruction is written
// out since a template cannot have the target that its intrinsic asks of callers.
struct DotUnit : Unit<64, 12, bf16> {
  // A step of two depths, the first in the lower half.
  using Step = uint32_t;
  static constexpr int64_t kDepths = 2;
  static MMOE_ALWAYS_INLINE void add_product(uint32_t a, const uint32_t* b, Floats& low, Floats& high) {
    Floats b_low, b_high;  // of pairs' bits
    read_pair(b, b_low, b_high);
    const Words all_a = Words{} + a;
    asm("vdpbf16ps %1, %2, %0" : "+v"(low) : "v"(all_a), "v"(b_low));
    asm("vdpbf16ps %1, %2, %0" : "+v"(high) : "v"(all_a), "v"(b_high));
  }
};
#endif

// Depths that a word of four bytes holds.
template <class U>
constexpr int64_t kWordDepths = 4 / sizeof(typename U::Value);

template <class U>
constexpr int64_t steps_of(int64_t depth) {
  return (depth + U::kDepths - 1) / U::kDepths;
}

// How a tile of a lies in its buffer: step k of row i at i * kPitch + k, or at k * kPitch + i.
enum class Order { kRows, kSteps };

template <Order kOrder, int64_t kPitch, class Step>
MMOE_ALWAYS_INLINE Step step_at(const Step* a, int64_t i, int64_t k) {
  return kOrder == Order::kRows ? a[i * kPitch + k] : a[k * kPitch + i];
}

// Puts the sums of one row in their place, or adds them to what is there.
template <class U>
MMOE_ALWAYS_INLINE void finish(typename U::Floats& low, typename U::Floats& high, bool adds, int64_t columns,
                               float* c) {
  if (columns >= U::kPanel) {
    if (adds) {
      typename U::Floats kept_low, kept_high;
      U::read_pair(c, kept_low, kept_high);
      low += kept_low;
      high += kept_high;
    }
    return U::write_pair(low, high, c);
  }
  float sums[U::kPanel];
  U::write_pair(low, high, sums);
  for (int64_t j = 0; j < columns; ++j) c[j] = adds ? c[j] + sums[j] : sums[j];
}

// Rows `i...` of a times one panel of b.
template <class U, Order kOrder, int64_t kPitch, int... i>
MMOE_ALWAYS_INLINE void multiply_block(std::integer_sequence<int, i...>, const typename U::Step* a,
                                       const typename U::Step* b, int64_t steps, bool adds, int64_t columns, float* c,
                                       int64_t c_stride) {
  typename U::Floats low[sizeof...(i)] = {}, high[sizeof...(i)] = {};
  for (int64_t k = 0; k < steps; ++k) {
    (U::add_product(step_at<kOrder, kPitch>(a, i, k), b + k * U::kPanel, low[i], high[i]), ...);
  }
  (finish<U>(low[i], high[i], adds, columns, c + i * c_stride), ...);
}

// The same for a number of rows known only now, from 1 to kRows.
template <class U, Order kOrder, int64_t kPitch, int kRows>
MMOE_ALWAYS_INLINE void multiply_rows(int64_t rows, const typename U::Step* a, const typename U::Step* b, int64_t steps,
                                      bool adds, int64_t columns, float* c, int64_t c_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_rows<U, kOrder, kPitch, kRows - 1>(rows, a, b, steps, adds, columns, c, c_stride);
  }
  multiply_block<U, kOrder, kPitch>(std::make_integer_sequence<int, kRows>(), a, b, steps, adds, columns, c, c_stride);
}

// By blocks of nearly equal heights.
template <class U, Order kOrder, int64_t kPitch>
MMOE_ALWAYS_INLINE void multiply_blocks(const typename U::Step* a, const typename U::Step* b, int64_t panel_steps,
                                        int64_t rows, int64_t columns, int64_t steps, bool adds, float* c,
                                        int64_t c_stride) {
  const int64_t blocks = (rows + U::kBlockRows - 1) / U::kBlockRows;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = rows * block / blocks, last = rows * (block + 1) / blocks;
    for (int64_t j = 0; j < columns; j += U::kPanel) {
      multiply_rows<U, kOrder, kPitch, U::kBlockRows>(last - first, a + first * (kOrder == Order::kRows ? kPitch : 1),
                                                      b + j * panel_steps, steps, adds, columns - j,
                                                      c + first * c_stride + j, c_stride);
    }
  }
}

#if defined(__x86_64__)
#define MMOE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define MMOE_AVX2 __attribute__((target("avx2,fma")))
#else
#define MMOE_AVX512
#define MMOE_AVX2
#endif

// c [rows, columns] of a tile of a and of panels of b, `panel_steps` high, of which `steps` count: put in its place, or
// added to what is there. A function of its own, where all registers are for the sums.
template <class U, Order kOrder, int64_t kPitch, class... Args>
MMOE_AVX512 __attribute__((noinline)) void multiply_tile_avx512(Args... args) {
  multiply_blocks<U, kOrder, kPitch>(args...);
}
template <class U, Order kOrder, int64_t kPitch, class... Args>
MMOE_AVX2 __attribute__((noinline)) void multiply_tile_avx2(Args... args) {
  multiply_blocks<U, kOrder, kPitch>(args...);
}
template <class U, Order kOrder, int64_t kPitch>
MMOE_ALWAYS_INLINE void multiply_tile(const typename U::Step* a, const typename U::Step* b, int64_t panel_steps,
                                      int64_t rows, int64_t columns, int64_t steps, bool adds, float* c,
                                      int64_t c_stride) {
  if constexpr (U::kLanes == 16) {
    multiply_tile_avx512<U, kOrder, kPitch>(a, b, panel_steps, rows, columns, steps, adds, c, c_stride);
  } else if constexpr (U::kLanes == 8) {
    multiply_tile_avx2<U, kOrder, kPitch>(a, b, panel_steps, rows, columns, steps, adds, c, c_stride);
  } else {
    multiply_blocks<U, kOrder, kPitch>(a, b, panel_steps, rows, columns, steps, adds, c, c_stride);
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

// The steps of words of neighbouring depths, one a lane, to a panel.
template <class U>
MMOE_ALWAYS_INLINE void put_words(const typename U::Words& words, typename U::Step* panel) {
  if constexpr (U::kDepths == kWordDepths<U>) {
    std::memcpy(panel, &words, sizeof words);
  } else {
    const typename U::Words first = words << 16, second = words & 0xffff0000u;
    std::memcpy(panel, &first, sizeof first);
    std::memcpy(panel + U::kPanel, &second, sizeof second);
  }
}

// One vector's words of depths of as many columns, each contiguous and `stride` after the one before.
template <class U, int... i>
MMOE_ALWAYS_INLINE void pack_square(std::integer_sequence<int, i...> lanes, const typename U::Value* b, int64_t stride,
                                    typename U::Step* panel) {
  typename U::Words words[U::kLanes];  // of bf16 the first depth in the lower half
  (std::memcpy(&words[i], b + i * stride, sizeof words[i]), ...);
  transpose<U, U::kLanes / 2>(lanes, words);
  (put_words<U>(words[i], panel + kWordDepths<U> * i / U::kDepths * U::kPanel), ...);
}

// One step of the depths at x, `stride` apart, of which `depths` are left.
template <class U>
MMOE_ALWAYS_INLINE typename U::Step step_of(const typename U::Value* x, int64_t stride, int64_t depths) {
  if constexpr (U::kDepths == 1) {
    return load(*x);
  } else {
    return x->bits | (depths > 1 ? static_cast<uint32_t>(x[stride].bits) << 16 : 0);
  }
}

// `count` steps, those of neighbours in memory: x and what lies `stride` after it, where `depths` are left.
template <class U>
MMOE_ALWAYS_INLINE void pack_steps(const typename U::Value* x, int64_t stride, int64_t depths, int64_t count,
                                   typename U::Step* steps) {
  if constexpr (sizeof(typename U::Value) == sizeof(typename U::Step)) {
    std::memcpy(steps, x, static_cast<size_t>(count) * sizeof *steps);
  } else if constexpr (U::kDepths == 1) {
    widen(x, steps, count);
  } else if (depths > 1) {
    const bf16* second = x + stride;
#pragma omp simd
    for (int64_t n = 0; n < count; ++n) steps[n] = x[n].bits | static_cast<uint32_t>(second[n].bits) << 16;
  } else {
#pragma omp simd
    for (int64_t n = 0; n < count; ++n) steps[n] = x[n].bits;
  }
}

// Columns of b, each of them contiguous and `stride` after the one before, to one vector's width of a panel.
template <class U>
MMOE_ALWAYS_INLINE void pack_columns(const typename U::Value* b, int64_t stride, int64_t columns, int64_t depth,
                                     typename U::Step* panel) {
  constexpr int64_t kSquare = kWordDepths<U> * U::kLanes;
  int64_t k = 0;
  if (columns >= U::kLanes) {
    for (; k + kSquare <= depth; k += kSquare) {
      pack_square<U>(std::make_integer_sequence<int, U::kLanes>(), b + k, stride, panel + k / U::kDepths * U::kPanel);
    }
  }
  for (; k < depth; k += U::kDepths) {
    for (int64_t j = 0; j < U::kLanes; ++j) {
      panel[k / U::kDepths * U::kPanel + j] = j < columns ? step_of<U>(b + j * stride + k, 1, depth - k) : 0;
    }
  }
}

// b [depth, columns] to panels [steps, kPanel], one after the other; beyond its last column they are zero.
template <class U>
MMOE_ALWAYS_INLINE void pack_b(const MatrixView& b, int64_t first_k, int64_t depth, int64_t first_column,
                               int64_t columns, typename U::Step* panels) {
  const auto* values =
      static_cast<const typename U::Value*>(b.values) + first_k * b.row_stride + first_column * b.column_stride;
  for (int64_t j = 0; j < columns; j += U::kPanel) {
    typename U::Step* panel = panels + j * steps_of<U>(depth);
    const int64_t width = std::min<int64_t>(U::kPanel, columns - j);
    if (b.column_stride == 1) {
      for (int64_t k = 0; k < depth; k += U::kDepths, panel += U::kPanel) {
        const auto* row = values + k * b.row_stride + j;
        if (width == U::kPanel) {
          pack_steps<U>(row, b.row_stride, depth - k, U::kPanel, panel);
        } else {
          for (int64_t n = 0; n < U::kPanel; ++n) {
            panel[n] = n < width ? step_of<U>(row + n, b.row_stride, depth - k) : 0;
          }
        }
      }
    } else {
      for (const int64_t half : {0, U::kLanes}) {
        pack_columns<U>(values + (j + half) * b.column_stride, b.column_stride, width - half, depth, panel + half);
      }
    }
  }
}

// a [rows, depth] to a tile, in the order in which it lies.
template <class U, int64_t kRowPitch, int64_t kStepPitch>
MMOE_ALWAYS_INLINE void pack_a(const MatrixView& a, int64_t first_row, int64_t rows, int64_t first_k, int64_t depth,
                               typename U::Step* tile) {
  const auto* values =
      static_cast<const typename U::Value*>(a.values) + first_row * a.row_stride + first_k * a.column_stride;
  if (a.column_stride == 1) {
    for (int64_t i = 0; i < rows; ++i, values += a.row_stride, tile += kRowPitch) {
      if constexpr (U::kDepths == kWordDepths<U>) {
        std::memcpy(tile, values, static_cast<size_t>(depth) * sizeof *values);
        if (depth % U::kDepths != 0) tile[depth / U::kDepths] = step_of<U>(values + depth - 1, 1, 1);
      } else {
        widen(values, tile, depth);
      }
    }
  } else {
    for (int64_t k = 0; k < depth; k += U::kDepths, tile += kStepPitch) {
      pack_steps<U>(values + k * a.column_stride, a.column_stride, depth - k, rows, tile);
    }
  }
}

// Defines name<T>(), which chooses among void(const Args&, int64_t begin, int64_t end) that run body<U> compiled for
// the machine's vector unit U.
#if defined(__x86_64__)
#define MMOE_UNIT_FUNCTION(name, body, Args)                                                                        \
  template <class T>                                                                                                \
  MMOE_AVX512 void name##_avx512(const Args& args, int64_t b, int64_t e) {                                          \
    body<Unit<64, 12, T>>(args, b, e);                                                                              \
  }                                                                                                                 \
  MMOE_AVX512 inline void name##_avx512_dots(const Args& args, int64_t b, int64_t e) { body<DotUnit>(args, b, e); } \
  template <class T>                                                                                                \
  MMOE_AVX2 void name##_avx2(const Args& args, int64_t b, int64_t e) {                                              \
    body<Unit<32, 6, T>>(args, b, e);                                                                               \
  }                                                                                                                 \
  template <class T>                                                                                                \
  void name##_plain(const Args& args, int64_t b, int64_t e) {                                                       \
    body<Unit<16, 4, T>>(args, b, e);                                                                               \
  }                                                                                                                 \
  template <class T>                                                                                                \
  auto name()->void (*)(const Args&, int64_t, int64_t) {                                                            \
    const VectorUnit unit = vector_unit();                                                                          \
    if (std::is_same_v<T, bf16> && unit == VectorUnit::kAvx512Dots) return name##_avx512_dots;                      \
    if (unit >= VectorUnit::kAvx512) return name##_avx512<T>;                                                       \
    if (unit == VectorUnit::kAvx2) return name##_avx2<T>;                                                           \
    return name##_plain<T>;                                                                                         \
  }
#else
#define MMOE_UNIT_FUNCTION(name, body, Args)                  \
  template <class T>                                          \
  void name##_plain(const Args& args, int64_t b, int64_t e) { \
    body<Unit<16, 4, T>>(args, b, e);                         \
  }                                                           \
  template <class T>                                          \
  auto name()->void (*)(const Args&, int64_t, int64_t) {      \
    return name##_plain<T>;                                   \
  }
#endif

}  // namespace mmoe::kernels
