#include <cmath>

#include "kernels/adamw/adamw.h"

namespace mmoe::kernels {

void adamw_reference(const AdamW& a) {
  visit_scalar(a.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Accumulate<T>;
    const auto step = static_cast<double>(a.step);
    for (int64_t i = 0; i < a.num_values; ++i) {
      A& master = static_cast<A*>(a.master)[i];
      A& m = static_cast<A*>(a.first_moment)[i];
      A& v = static_cast<A*>(a.second_moment)[i];
      const double g = static_cast<const A*>(a.gradient)[i] / a.gradient_divisor;
      m = static_cast<A>(a.beta1 * m + (1 - a.beta1) * g);
      v = static_cast<A>(a.beta2 * v + (1 - a.beta2) * g * g);
      const double first = m / (1 - std::pow(a.beta1, step)), second = v / (1 - std::pow(a.beta2, step));
      master = static_cast<A>(master * (1 - a.rate * a.decay) - a.rate * first / (std::sqrt(second) + a.epsilon));
      if (a.value != nullptr) static_cast<T*>(a.value)[i] = store<T>(master);
    }
  });
}

}  // namespace mmoe::kernels
