#include "sim/formulas/expected_multiples.h"

#include <algorithm>
#include <cmath>

namespace mmoe {

double expected_multiples(double mean_rows, double multiple) {
  const double used = 1 - std::exp(-mean_rows);
  return std::max(used, mean_rows / multiple + used * (multiple - 1) / (2 * multiple));
}

}  // namespace mmoe
