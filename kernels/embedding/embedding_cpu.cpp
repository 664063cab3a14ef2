#include "kernels/embedding/embedding.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

// Adds the columns [begin, end) of all tokens: threads share columns, so each sum keeps its order.
template <class T>
MMOE_ALWAYS_INLINE void add_columns(const EmbeddingBackward& a, int64_t begin, int64_t end) {
  for (int64_t t = 0; t < a.num_tokens; ++t) {
    const int64_t token = a.tokens[t];
    if (token < 0 || token >= a.vocab_size) continue;
    const T* dx = static_cast<const T*>(a.dx) + t * a.size;
    Accumulate<T>* row = static_cast<Accumulate<T>*>(a.d_weight) + token * a.size;
#pragma omp simd
    for (int64_t d = begin; d < end; ++d) row[d] += load(dx[d]);
  }
}
MMOE_SIMD_FUNCTION(add_column_range, add_columns, EmbeddingBackward)

constexpr int64_t kColumns = 64;  // a range is at least a few cache lines wide

}  // namespace

void embedding_backward_cpu(const EmbeddingBackward& args) {
  parallel_for(0, args.size, kColumns,
               [&](int64_t begin, int64_t end) { add_column_range(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
