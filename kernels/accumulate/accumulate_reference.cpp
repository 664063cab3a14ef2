#include "kernels/accumulate/accumulate.h"

namespace mmoe::kernels {

void accumulate_values_reference(const AccumulateValues& args) {
  visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < args.num_values; ++i) {
      Accumulate<T>& sum = static_cast<Accumulate<T>*>(args.sums)[i];
      const Accumulate<T> value = load(static_cast<const T*>(args.values)[i]);
      sum = args.begins ? value : sum + value;
    }
  });
}

}  // namespace mmoe::kernels
