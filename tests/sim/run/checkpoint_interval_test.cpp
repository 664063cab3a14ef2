#include "sim/run/checkpoint_interval.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

constexpr Seconds kHour{3600};
// A few rounded operations on values of similar size.
constexpr double kRounding = 1e-14;

// Daly's expected time has its minimum where exp(-(x + d)) = 1 - x, with x = tau / M and d = delta / M. Newton's method
// on d = -ln(1 - x) - x, which rises and is convex in 0 < x < 1, from above.
double exact_optimum(double d) {
  double x = 1 - std::exp(-1 - d);  // -ln(1 - x) - x = d + exp(-1 - d) > d
  for (int i = 0; i < 200; ++i) x -= (-std::log1p(-x) - x - d) * (1 - x) / x;
  return x;
}

double wall(double tau, double delta, double restart = 0) {
  return expected_wall_time(Seconds{1}, Seconds{tau}, Seconds{delta}, Seconds{restart}, Seconds{1}).value;
}

TEST(MeanTimeBetweenFailures, FallsWithTheNumberOfDevices) {
  EXPECT_EQ(mean_time_between_failures(50'000 * kHour, 1000).value, 50 * 3600);
}

TEST(CheckpointInterval, HandComputed) {
  // delta = 2 min, M = 4 h = 14400 s: Young sqrt(2 * 120 * 14400) = sqrt(3456000) = 1859.03 s.
  const Seconds young = young_checkpoint_interval(Seconds{120}, 4 * kHour);
  EXPECT_NEAR(young.value, 1859.03, 0.005);  // printed digits
  // e = sqrt(120 / 28800) = 0.0645497: 1859.03 * (1 + 0.0215166 + 0.000462963) - 120 = 1779.89 s.
  EXPECT_NEAR(daly_checkpoint_interval(Seconds{120}, 4 * kHour).value, 1779.89, 0.01);
}

// Daly 2006, captions of Figs. 3 to 5: M = 24 h, 6 h and 15 min with delta = 5 min; minutes, two or three digits
// printed.
TEST(CheckpointInterval, DalysPublishedExamples) {
  const auto minutes = [](double M) { return daly_checkpoint_interval(Seconds{300}, Seconds{60 * M}).value / 60; };
  EXPECT_NEAR(minutes(24 * 60), 117, 0.5);
  EXPECT_NEAR(minutes(6 * 60), 57, 0.5);
  EXPECT_NEAR(minutes(15), 9.1, 0.05);
}

TEST(CheckpointInterval, IsTheMeanTimeBetweenFailuresWhereWritingTakesLonger) {
  EXPECT_EQ(daly_checkpoint_interval(2 * kHour, kHour).value, 3600);
  EXPECT_EQ(daly_checkpoint_interval(9 * kHour, kHour).value, 3600);
}

// With e = sqrt(d / 2), expanding exp(-(x + d)) = 1 - x gives x = 2 e - 4/3 e^2 + 2/9 e^3 + 8/135 e^4 + O(e^5): Daly's
// formula is the first three terms. One order further bounds the rest: 8/135 e^4 (1 + e) for these e < 1/2.
TEST(CheckpointInterval, DalysIsTheOptimumToItsOrder) {
  for (const double e : {0.4, 0.2, 0.1, 0.05, 0.02}) {
    const double d = 2 * e * e, optimum = exact_optimum(d);
    const double tau = daly_checkpoint_interval(Seconds{d}, Seconds{1}).value;
    EXPECT_LE(std::fabs(optimum - tau), 8.0 / 135 * std::pow(e, 4) * (1 + e) + kRounding) << e;
    // T'' / T = 1 / x at the minimum, so an error of dx costs dx^2 / (2 x), here to leading order with half of it
    // spare.
    const double excess = wall(tau, d) / wall(optimum, d) - 1;
    const double dx = 8.0 / 135 * std::pow(e, 4) * (1 + e);
    EXPECT_LE(excess, 1.5 * dx * dx / (2 * optimum) + kRounding) << e;
    EXPECT_GE(excess, -kRounding) << e;
  }
}

TEST(CheckpointInterval, DalysLosesLessThanYoungs) {
  for (const double d : {0.001, 0.01, 0.1, 0.5, 1.0}) {
    const double daly = daly_checkpoint_interval(Seconds{d}, Seconds{1}).value;
    const double young = young_checkpoint_interval(Seconds{d}, Seconds{1}).value;
    EXPECT_LT(wall(daly, d), wall(young, d)) << d;
    for (const double factor : {0.5, 0.8, 1.25, 2.0}) EXPECT_LT(wall(daly, d), wall(daly * factor, d)) << d;
  }
}

TEST(ExpectedWallTime, HandComputed) {
  // M = tau + delta = 1, R = 0: (e - 1) work / tau.
  EXPECT_NEAR(wall(0.9, 0.1), (std::exp(1.0) - 1) / 0.9, 4 * kRounding);
  EXPECT_NEAR(wall(0.9, 0.1, 1), std::exp(1.0) * (std::exp(1.0) - 1) / 0.9, 8 * kRounding);
}

// (tau + delta) / M -> 0: only the checkpoints are left. The next term of the expansion is R / M + (tau + delta) / (2
// M).
TEST(ExpectedWallTime, WithoutFailuresOnlyCheckpointsAdd) {
  for (const double M : {1e6, 1e9, 1e15}) {
    const double found =
        expected_wall_time(Seconds{5000}, Seconds{100}, Seconds{2}, Seconds{30}, Seconds{M}).value / 5000;
    const double next = 30 / M + 102 / (2 * M);
    EXPECT_NEAR(found / 1.02, 1 + next, next * next + kRounding) << M;
  }
}

TEST(ExpectedWallTime, IsInfiniteWhereNothingIsEverFinished) {
  EXPECT_TRUE(std::isinf(expected_wall_time(kHour, kHour, Seconds{1}, Seconds{1}, Seconds{1}).value));
}

}  // namespace
}  // namespace mmoe
