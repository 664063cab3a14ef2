#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"

namespace mmoe::kernels {
namespace {

// Rows of one head in a tensor whose rows hold `heads` of them.
template <class T>
struct Head {
  T* values;
  int64_t stride;
  T* row(int64_t token) const { return values + token * stride; }
};
template <class T, class Void>
Head<T> head_of(Void* tensor, int64_t heads, int64_t head, int64_t size) {
  return {static_cast<T*>(tensor) + head * size, heads * size};
}

template <class T, class A>
A dot(const T* a, const T* b, int64_t size) {
  A sum = 0;
  for (int64_t d = 0; d < size; ++d) sum += load(a[d]) * load(b[d]);
  return sum;
}

// Calls body(sequence's first token, its end, head).
template <class Body>
void for_each_head(const AttentionShapes& shapes, const Body& body) {
  for (int64_t s = 0; s < shapes.num_sequences; ++s) {
    for (int64_t head = 0; head < shapes.num_heads; ++head) body(shapes.starts[s], shapes.starts[s + 1], head);
  }
}

template <class T>
struct Heads {
  Heads(const AttentionShapes& shapes, const void* qkv, int64_t head) {
    const int64_t all = shapes.num_heads + 2 * shapes.num_kv_heads, size = shapes.head_dim;
    const int64_t shared = head / (shapes.num_heads / shapes.num_kv_heads);
    q = head_of<const T>(qkv, all, head, size);
    k = head_of<const T>(qkv, all, shapes.num_heads + shared, size);
    v = head_of<const T>(qkv, all, shapes.num_heads + shapes.num_kv_heads + shared, size);
  }
  Head<const T> q, k, v;
};

template <class T>
void forward(const AttentionForward& args) {
  using A = Accumulate<T>;
  const AttentionShapes& shapes = args.shapes;
  const int64_t size = shapes.head_dim, tokens = shapes.starts[shapes.num_sequences];
  const A scale = 1 / std::sqrt(static_cast<A>(size));
  for_each_head(shapes, [&](int64_t first, int64_t end, int64_t head) {
    const Heads<T> in(shapes, args.qkv, head);
    const Head<T> out = head_of<T>(args.out, shapes.num_heads, head, size);
    for (int64_t i = first; i < end; ++i) {
      std::vector<A> p;
      A largest = -std::numeric_limits<A>::infinity(), sum = 0;
      for (int64_t j = first; j <= i; ++j) {
        p.push_back(scale * dot<T, A>(in.q.row(i), in.k.row(j), size));
        largest = std::max(largest, p.back());
      }
      for (A& value : p) sum += value = std::exp(value - largest);
      static_cast<A*>(args.log_sum_exp)[head * tokens + i] = largest + std::log(sum);
      for (int64_t d = 0; d < size; ++d) {
        A total = 0;
        for (int64_t j = first; j <= i; ++j) total += p[static_cast<size_t>(j - first)] * load(in.v.row(j)[d]);
        out.row(i)[d] = store<T>(total / sum);
      }
    }
  });
}

template <class T>
void backward(const AttentionBackward& args) {
  using A = Accumulate<T>;
  const AttentionShapes& shapes = args.shapes;
  const int64_t size = shapes.head_dim, tokens = shapes.starts[shapes.num_sequences];
  const int64_t width = (shapes.num_heads + 2 * shapes.num_kv_heads) * size;
  const A scale = 1 / std::sqrt(static_cast<A>(size));
  std::vector<A> sums(static_cast<size_t>(tokens * width), 0);
  for_each_head(shapes, [&](int64_t first, int64_t end, int64_t head) {
    const Heads<T> in(shapes, args.qkv, head);
    const Head<const T> out = head_of<const T>(args.out, shapes.num_heads, head, size);
    const Head<const T> d_out = head_of<const T>(args.d_out, shapes.num_heads, head, size);
    const auto sum_of = [&](const Head<const T>& part, int64_t token) {
      return sums.data() + (part.row(token) - static_cast<const T*>(args.qkv));
    };
    for (int64_t i = first; i < end; ++i) {
      const A delta = dot<T, A>(d_out.row(i), out.row(i), size);
      for (int64_t j = first; j <= i; ++j) {
        const A score = scale * dot<T, A>(in.q.row(i), in.k.row(j), size);
        const A p = std::exp(score - static_cast<const A*>(args.log_sum_exp)[head * tokens + i]);
        const A d_score = scale * p * (dot<T, A>(d_out.row(i), in.v.row(j), size) - delta);
        for (int64_t d = 0; d < size; ++d) {
          sum_of(in.v, j)[d] += p * load(d_out.row(i)[d]);
          sum_of(in.q, i)[d] += d_score * load(in.k.row(j)[d]);
          sum_of(in.k, j)[d] += d_score * load(in.q.row(i)[d]);
        }
      }
    }
  });
  for (int64_t i = 0; i < tokens * width; ++i) static_cast<T*>(args.d_qkv)[i] = store<T>(sums[static_cast<size_t>(i)]);
}

}  // namespace

void attention_forward_reference(const AttentionForward& args) {
  visit_scalar(args.shapes.scalar, [&](auto tag) { forward<typename decltype(tag)::type>(args); });
}
void attention_backward_reference(const AttentionBackward& args) {
  visit_scalar(args.shapes.scalar, [&](auto tag) { backward<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
