#include <algorithm>

#include "kernels/accumulate/accumulate.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void add(const AccumulateValues& args, int64_t begin, int64_t end) {
  const T* values = static_cast<const T*>(args.values);
  Accumulate<T>* sums = static_cast<Accumulate<T>*>(args.sums);
  if (args.begins) {
    for (int64_t first = begin; first < end; first += kTile) {
      const int64_t last = std::min(end, first + kTile);
      prefetch_for_writing(sums + first + kTile, last - first);
#pragma omp simd
      for (int64_t i = first; i < last; ++i) sums[i] = load(values[i]);
    }
    return;
  }
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) sums[i] += load(values[i]);
}
MMOE_SIMD_FUNCTION(accumulate_range, add, AccumulateValues)

}  // namespace

void accumulate_values_cpu(const AccumulateValues& args) {
  const auto bytes = static_cast<int64_t>(size_of(args.scalar) + 2 * size_of(accumulate(args.scalar)));
  parallel_for(0, args.num_values, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { accumulate_range(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
