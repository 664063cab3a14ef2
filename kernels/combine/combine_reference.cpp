#include "kernels/combine/combine.h"

namespace mmoe::kernels {
namespace {

template <class T>
void combine(const Combine& a) {
  using A = Accumulate<T>;
  const T* rows = static_cast<const T*>(a.rows);
  const T* base = static_cast<const T*>(a.base);
  for (int64_t t = 0; t < a.num_tokens; ++t) {
    for (int64_t d = 0; d < a.size; ++d) {
      A sum = base == nullptr ? 0 : load(base[t * a.size + d]);
      for (int64_t j = 0; j < a.top_k; ++j) {
        const int64_t row = a.row_of_pair[t * a.top_k + j];
        if (row >= 0) sum += load(rows[row * a.size + d]);
      }
      static_cast<T*>(a.out)[t * a.size + d] = store<T>(sum);
    }
  }
}

template <class T, class Out>
void scatter_add_rows(const ScatterAddRows& a) {
  Out* out = static_cast<Out*>(a.out);
  for (int64_t r = 0; r < a.num_rows; ++r) {
    const int64_t token = a.token_of_row[r];
    if (token < 0) continue;
    for (int64_t d = 0; d < a.size; ++d) {
      out[token * a.size + d] =
          store<Out>(load(out[token * a.size + d]) + load(static_cast<const T*>(a.rows)[r * a.size + d]));
    }
  }
}

}  // namespace

void combine_reference(const Combine& args) {
  visit_scalar(args.scalar, [&](auto tag) { combine<typename decltype(tag)::type>(args); });
}

void scatter_add_rows_reference(const ScatterAddRows& args) {
  visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.out_scalar == args.scalar) {
      scatter_add_rows<T, T>(args);
    } else {
      scatter_add_rows<T, Accumulate<T>>(args);
    }
  });
}

}  // namespace mmoe::kernels
