#include "kernels/embedding/embedding.h"

namespace mmoe::kernels {
namespace {

template <class T>
void backward(const EmbeddingBackward& a) {
  for (int64_t t = 0; t < a.num_tokens; ++t) {
    const int64_t token = a.tokens[t];
    if (token < 0 || token >= a.vocab_size) continue;
    for (int64_t d = 0; d < a.size; ++d) {
      static_cast<Accumulate<T>*>(a.d_weight)[token * a.size + d] += load(static_cast<const T*>(a.dx)[t * a.size + d]);
    }
  }
}

}  // namespace

void embedding_backward_reference(const EmbeddingBackward& args) {
  visit_scalar(args.scalar, [&](auto tag) { backward<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
