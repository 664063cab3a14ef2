#include "sim/plan/fit_probability.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TEST(FitProbability, WithoutErrorTheLawDecides) {
  EXPECT_EQ(fit_probability([](double limit) { return limit >= 3 ? 0.7 : 0.0; }, 3, 0), 0.7);
}

// A certain peak of 1 and a spread s: P(exp(s z) <= limit) = Phi(log(limit) / s). 41 slices resolve it to 1 / 41.
TEST(FitProbability, ACertainPeakIsLogNormal) {
  for (const double limit : {0.8, 0.95, 1.0, 1.1, 1.5}) {
    const double exact = 0.5 * std::erfc(-std::log(limit) / 0.1 / std::sqrt(2.0));
    EXPECT_NEAR(fit_probability([](double bytes) { return bytes >= 1 ? 1.0 : 0.0; }, limit, 0.1), exact, 1.0 / 41);
  }
}

}  // namespace
}  // namespace mmoe
