#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/matrix_product/tiles.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

constexpr int64_t kQueries = 48, kKeys = 256;  // of a tile of scores
// Queries for which a tile of keys and values is packed once; a multiple of kQueries.
constexpr int64_t kBlockQueries = 288;
constexpr int64_t kPitch = kKeys + 16;  // of a row of scores. No power of two: rows lie in different sets of a cache

// One head of a tensor whose rows hold several.
template <class T>
struct Head {
  T* values;
  int64_t stride;
  MatrixView rows() const { return {values, stride, 1}; }
  MatrixView columns() const { return {values, 1, stride}; }
  T* row(int64_t token) const { return values + token * stride; }
};
template <class T, class Void>
Head<T> head_of(Void* tensor, int64_t first_token, int64_t heads, int64_t head, int64_t size) {
  return {static_cast<T*>(tensor) + (first_token * heads + head) * size, heads * size};
}

struct Shape : AttentionShapes {
  explicit Shape(const AttentionShapes& shapes) : AttentionShapes(shapes) {}
  int64_t all_heads() const { return num_heads + 2 * num_kv_heads; }
  int64_t group() const { return num_heads / num_kv_heads; }  // heads that share a key
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
};

// `sums` alone grows with a sequence.
template <class U>
struct Buffers {
  using Step = typename U::Step;
  alignas(64) Step queries[kQueries * kPitch];    // tile
  alignas(64) Step d_out[kQueries * kPitch];      // tile
  alignas(64) Step keys_t[kMostHeadDim * kKeys];  // panels over the head's elements, as all below are over tokens
  alignas(64) Step values_t[kMostHeadDim * kKeys];
  alignas(64) Step keys[kMostHeadDim * kKeys];
  alignas(64) Step values[kMostHeadDim * kKeys];
  alignas(64) Step query_panels[kMostHeadDim * kQueries];
  alignas(64) Step d_out_panels[kMostHeadDim * kQueries];
  alignas(64) float scores[kQueries * kPitch];
  alignas(64) float d_scores[kQueries * kPitch];
  alignas(64) Step narrowed[kQueries * kPitch];    // a tile of scores as an operand
  alignas(64) Step transposed[kQueries * kPitch];  // the same
  alignas(64) float d_keys[kMostHeadDim * kKeys], d_values[kMostHeadDim * kKeys];
  std::vector<float> sums;
};
// Scores [rows, columns], whose rows end with zeros up to whole steps, as an operand with steps of columns.
template <class U>
MMOE_ALWAYS_INLINE const typename U::Step* by_rows(const float* scores, int64_t rows, int64_t columns,
                                                   typename U::Step* narrowed) {
  if constexpr (U::kDepths == 1) {
    return scores;
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      narrow(scores + i * kPitch, reinterpret_cast<bf16*>(narrowed + i * kPitch), steps_of<U>(columns) * U::kDepths);
    }
    return narrowed;
  }
}
// Transposed, with steps of rows; `narrowed`: what by_rows returned.
template <class U>
MMOE_ALWAYS_INLINE const typename U::Step* by_columns(const typename U::Step* narrowed, int64_t rows, int64_t columns,
                                                      typename U::Step* transposed) {
  if constexpr (U::kDepths == 1) {
    return narrowed;
  } else {
    constexpr int64_t kStride = kPitch * U::kDepths;
    const auto* values = reinterpret_cast<const bf16*>(narrowed);
    for (int64_t i = 0; i < rows; i += U::kDepths) {
      pack_steps<U>(values + i * kStride, kStride, rows - i, columns, transposed + i / U::kDepths * kPitch);
    }
    return transposed;
  }
}

MMOE_ALWAYS_INLINE float largest_of(const float* x, int64_t n) {
  float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < n; ++j) largest = x[j] > largest ? x[j] : largest;
  return largest;
}

template <class T>
MMOE_ALWAYS_INLINE void write_rows(const float* sums, int64_t rows, int64_t size, const Head<T>& to, int64_t first) {
  for (int64_t i = 0; i < rows; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(to.row(first + i), sums + i * size, static_cast<size_t>(size) * sizeof(float));
    } else {
      narrow(sums + i * size, to.row(first + i), size);
    }
  }
}

// Keys that a query sees of those from `first_key` on.
MMOE_ALWAYS_INLINE int64_t keys_seen(int64_t query, int64_t first_key, int64_t keys) {
  return std::min(keys, query - first_key + 1);
}

// The results of one head's queries [begin, end) of a sequence.
template <class U>
MMOE_ALWAYS_INLINE void forward_block(const Head<const typename U::Value>& query,
                                      const Head<const typename U::Value>& key,
                                      const Head<const typename U::Value>& value, int64_t begin, int64_t end,
                                      int64_t size, float scale, const Head<typename U::Value>& out,
                                      float* log_sum_exp) {
  Buffers<U>& buffers = thread_buffers<Buffers<U>>();
  buffers.sums.resize(static_cast<size_t>(kBlockQueries * (size + 2)));
  float* const sums = buffers.sums.data();  // [queries, size]
  float* const largest = sums + kBlockQueries * size;
  float* const totals = largest + kBlockQueries;
  std::fill_n(largest, kBlockQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(totals, kBlockQueries, 0.0f);
  for (int64_t first_key = 0; first_key < end; first_key += kKeys) {
    const int64_t keys = std::min(kKeys, end - first_key);
    pack_b<U>(key.columns(), 0, size, first_key, keys, buffers.keys_t);
    pack_b<U>(value.rows(), first_key, keys, 0, size, buffers.values);
    for (int64_t first = begin; first < end; first += kQueries) {
      const int64_t rows = std::min(kQueries, end - first);
      const int64_t columns = keys_seen(first + rows - 1, first_key, keys);
      if (columns <= 0) continue;
      pack_a<U, kPitch, kPitch>(query.rows(), first, rows, 0, size, buffers.queries);
      multiply_tile<U, Order::kRows, kPitch>(buffers.queries, buffers.keys_t, steps_of<U>(size), rows, columns,
                                             steps_of<U>(size), false, buffers.scores, kPitch);
      const int64_t padded = steps_of<U>(columns) * U::kDepths;
      for (int64_t i = 0; i < rows; ++i) {
        float* const row = buffers.scores + i * kPitch;
        float* const sum = sums + (first - begin + i) * size;
        float& before = largest[first - begin + i];
        float& total = totals[first - begin + i];
        const int64_t seen = std::max<int64_t>(0, keys_seen(first + i, first_key, keys));
        std::fill(row + seen, row + padded, 0.0f);
        if (seen == 0) continue;
        const float now = std::max(before, scale * largest_of(row, seen));
        // Of scores that are all minus infinity or NaN: NaN.
        float row_total = 0;
#pragma omp simd reduction(+ : row_total)
        for (int64_t j = 0; j < seen; ++j) {
          row[j] = fast_exp(scale * row[j] - now);
          row_total += row[j];
        }
        if (first_key > 0) {
          const float shrunk = fast_exp(before - now);
          total *= shrunk;
#pragma omp simd
          for (int64_t d = 0; d < size; ++d) sum[d] *= shrunk;
        }
        total += row_total;
        before = now;
      }
      const auto* p = by_rows<U>(buffers.scores, rows, columns, buffers.narrowed);
      multiply_tile<U, Order::kRows, kPitch>(p, buffers.values, steps_of<U>(keys), rows, size, steps_of<U>(columns),
                                             first_key > 0, sums + (first - begin) * size, size);
    }
  }
  for (int64_t i = 0; i < end - begin; ++i) {
    float* const sum = sums + i * size;
    const float inverse = 1 / totals[i];
#pragma omp simd
    for (int64_t d = 0; d < size; ++d) sum[d] *= inverse;
    log_sum_exp[begin + i] = largest[i] + std::log(totals[i]);
  }
  write_rows(sums, end - begin, size, out, begin);
}

// What threads share out of a forward pass: the heads of a sequence.
template <class U>
MMOE_ALWAYS_INLINE void forward_heads(const AttentionForward& args, int64_t begin, int64_t end) {
  using T = typename U::Value;
  const Shape shape(args.shapes);
  const int64_t size = shape.head_dim, tokens = shape.starts[shape.num_sequences];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t sequence = task / shape.num_heads, head = task % shape.num_heads;
    const int64_t first = shape.starts[sequence], length = shape.starts[sequence + 1] - first;
    const auto part = [&](int64_t at) { return head_of<const T>(args.qkv, first, shape.all_heads(), at, size); };
    const int64_t shared = shape.num_heads + head / shape.group();
    float* const log_sum_exp = static_cast<float*>(args.log_sum_exp) + head * tokens + first;
    for (int64_t query = 0; query < length; query += kBlockQueries) {
      forward_block<U>(part(head), part(shared), part(shared + shape.num_kv_heads), query,
                       std::min(length, query + kBlockQueries), size, shape.scale(),
                       head_of<T>(args.out, first, shape.num_heads, head, size), log_sum_exp);
    }
  }
}

// What the backward pass reads of one head.
template <class T>
struct BackwardHead {
  Head<const T> query, out, d_out;
  const float* log_sum_exp;
};

// The gradients of one tile: probabilities and gradients of scores in the buffers' place.
template <class U>
MMOE_ALWAYS_INLINE void score_gradients(const BackwardHead<typename U::Value>& head, Buffers<U>& buffers, int64_t first,
                                        int64_t rows, int64_t first_key, int64_t keys, int64_t columns, int64_t size,
                                        float scale) {
  const int64_t padded = steps_of<U>(columns) * U::kDepths;
  for (int64_t i = 0; i < rows; ++i) {
    const auto *out = head.out.row(first + i), *d_out = head.d_out.row(first + i);
    float delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t d = 0; d < size; ++d) delta += load(out[d]) * load(d_out[d]);
    const float log_sum_exp = head.log_sum_exp[first + i];
    float* const p = buffers.scores + i * kPitch;
    float* const d_score = buffers.d_scores + i * kPitch;
    const int64_t seen = std::max<int64_t>(0, keys_seen(first + i, first_key, keys));
#pragma omp simd
    for (int64_t j = 0; j < seen; ++j) {
      p[j] = fast_exp(scale * p[j] - log_sum_exp);
      d_score[j] = scale * p[j] * (d_score[j] - delta);
    }
    std::fill(p + seen, p + padded, 0.0f);
    std::fill(d_score + seen, d_score + padded, 0.0f);
  }
}

// What threads share out of a backward pass: the heads of a sequence that share a key.
template <class U>
MMOE_ALWAYS_INLINE void backward_heads(const AttentionBackward& args, int64_t begin, int64_t end) {
  using T = typename U::Value;
  const Shape shape(args.shapes);
  const int64_t size = shape.head_dim, tokens = shape.starts[shape.num_sequences], group = shape.group();
  const float scale = shape.scale();
  const int64_t depth = steps_of<U>(size);
  Buffers<U>& buffers = thread_buffers<Buffers<U>>();
  for (int64_t task = begin; task < end; ++task) {
    const int64_t sequence = task / shape.num_kv_heads, kv_head = task % shape.num_kv_heads;
    const int64_t start = shape.starts[sequence], length = shape.starts[sequence + 1] - start;
    const auto part = [&](int64_t at) { return head_of<const T>(args.qkv, start, shape.all_heads(), at, size); };
    const auto d_part = [&](int64_t at) { return head_of<T>(args.d_qkv, start, shape.all_heads(), at, size); };
    const int64_t key_at = shape.num_heads + kv_head, value_at = key_at + shape.num_kv_heads;
    buffers.sums.resize(static_cast<size_t>(group * length * size));
    for (int64_t first_key = 0; first_key < length; first_key += kKeys) {
      const int64_t keys = std::min(kKeys, length - first_key);
      pack_b<U>(part(key_at).columns(), 0, size, first_key, keys, buffers.keys_t);
      pack_b<U>(part(value_at).columns(), 0, size, first_key, keys, buffers.values_t);
      pack_b<U>(part(key_at).rows(), first_key, keys, 0, size, buffers.keys);
      std::fill_n(buffers.d_keys, keys * size, 0.0f);
      std::fill_n(buffers.d_values, keys * size, 0.0f);
      for (int64_t of_group = 0; of_group < group; ++of_group) {
        const int64_t head_at = kv_head * group + of_group;
        const BackwardHead<T> head{part(head_at), head_of<const T>(args.out, start, shape.num_heads, head_at, size),
                                   head_of<const T>(args.d_out, start, shape.num_heads, head_at, size),
                                   static_cast<const float*>(args.log_sum_exp) + head_at * tokens + start};
        float* const d_query = buffers.sums.data() + of_group * length * size;
        for (int64_t first = first_key; first < length; first += kQueries) {
          const int64_t rows = std::min(kQueries, length - first);
          const int64_t columns = keys_seen(first + rows - 1, first_key, keys);
          pack_a<U, kPitch, kPitch>(head.query.rows(), first, rows, 0, size, buffers.queries);
          pack_a<U, kPitch, kPitch>(head.d_out.rows(), first, rows, 0, size, buffers.d_out);
          pack_b<U>(head.query.rows(), first, rows, 0, size, buffers.query_panels);
          pack_b<U>(head.d_out.rows(), first, rows, 0, size, buffers.d_out_panels);
          multiply_tile<U, Order::kRows, kPitch>(buffers.queries, buffers.keys_t, depth, rows, columns, depth, false,
                                                 buffers.scores, kPitch);
          multiply_tile<U, Order::kRows, kPitch>(buffers.d_out, buffers.values_t, depth, rows, columns, depth, false,
                                                 buffers.d_scores, kPitch);
          score_gradients<U>(head, buffers, first, rows, first_key, keys, columns, size, scale);
          const int64_t queries = steps_of<U>(rows);
          const auto* p = by_rows<U>(buffers.scores, rows, columns, buffers.narrowed);
          p = by_columns<U>(p, rows, columns, buffers.transposed);
          multiply_tile<U, Order::kSteps, kPitch>(p, buffers.d_out_panels, queries, columns, size, queries, true,
                                                  buffers.d_values, size);
          const auto* d_score = by_rows<U>(buffers.d_scores, rows, columns, buffers.narrowed);
          multiply_tile<U, Order::kRows, kPitch>(d_score, buffers.keys, steps_of<U>(keys), rows, size,
                                                 steps_of<U>(columns), first_key > 0, d_query + first * size, size);
          d_score = by_columns<U>(d_score, rows, columns, buffers.transposed);
          multiply_tile<U, Order::kSteps, kPitch>(d_score, buffers.query_panels, queries, columns, size, queries, true,
                                                  buffers.d_keys, size);
        }
      }
      write_rows(buffers.d_keys, keys, size, d_part(key_at), first_key);
      write_rows(buffers.d_values, keys, size, d_part(value_at), first_key);
    }
    for (int64_t of_group = 0; of_group < group; ++of_group) {
      write_rows(buffers.sums.data() + of_group * length * size, length, size, d_part(kv_head * group + of_group), 0);
    }
  }
}

MMOE_UNIT_FUNCTION(choose_forward, forward_heads, AttentionForward)
MMOE_UNIT_FUNCTION(choose_backward, backward_heads, AttentionBackward)

}  // namespace

void attention_forward_cpu(const AttentionForward& args) {
  const auto version = args.shapes.scalar == Scalar::kBFloat16 ? choose_forward<bf16>() : choose_forward<float>();
  parallel_for(0, args.shapes.num_sequences * args.shapes.num_heads, 1,
               [&](int64_t begin, int64_t end) { version(args, begin, end); });
}

void attention_backward_cpu(const AttentionBackward& args) {
  const auto version = args.shapes.scalar == Scalar::kBFloat16 ? choose_backward<bf16>() : choose_backward<float>();
  parallel_for(0, args.shapes.num_sequences * args.shapes.num_kv_heads, 1,
               [&](int64_t begin, int64_t end) { version(args, begin, end); });
}

}  // namespace mmoe::kernels
