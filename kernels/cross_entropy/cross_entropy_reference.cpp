#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cross_entropy/cross_entropy.h"

namespace mmoe::kernels {
namespace {

template <class T>
void cross_entropy(const CrossEntropy& a) {
  using A = Accumulate<T>;
  constexpr A kNan = std::numeric_limits<A>::quiet_NaN();
  for (int64_t r = 0; r < a.num_rows; ++r) {
    T* logits = static_cast<T*>(a.logits) + r * a.stride;
    const int64_t target = a.targets[r];
    const bool ignored = target == kIgnoredTarget;
    const bool valid = target >= 0 && target < a.vocab_size;
    A maximum = -std::numeric_limits<A>::infinity(), sum = 0;
    for (int64_t v = 0; v < a.vocab_size; ++v) maximum = std::max(maximum, load(logits[v]));
    for (int64_t v = 0; v < a.vocab_size; ++v) sum += std::exp(load(logits[v]) - maximum);
    static_cast<A*>(a.loss)[r] = ignored ? 0 : valid ? maximum + std::log(sum) - load(logits[target]) : kNan;
    if (a.gradient == LogitsGradient::kOmit) continue;
    for (int64_t v = 0; v < a.vocab_size; ++v) {
      const A softmax = std::exp(load(logits[v]) - maximum) / sum;
      const A gradient = static_cast<A>(a.scale) * (softmax - (v == target ? 1 : 0));
      logits[v] = store<T>(ignored ? 0 : valid ? gradient : kNan);
    }
  }
}

}  // namespace

void cross_entropy_reference(const CrossEntropy& args) {
  visit_scalar(args.scalar, [&](auto tag) { cross_entropy<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
