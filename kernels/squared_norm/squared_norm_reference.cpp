#include "kernels/squared_norm/squared_norm.h"

namespace mmoe::kernels {

double squared_norm_reference(const SquaredNorm& args) {
  return visit_accumulate(args.scalar, [&](auto tag) {
    using A = typename decltype(tag)::type;
    double sum = 0;
    for (int64_t i = 0; i < args.num_values; ++i) {
      const double value = static_cast<const A*>(args.values)[i];
      sum += value * value;
    }
    return sum;
  });
}

}  // namespace mmoe::kernels
