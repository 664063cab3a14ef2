#include "train/data/blend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// The rule as Megatron-LM writes it, in double: exact for weights that are small fractions of powers of two.
std::vector<int> megatron_sources(const std::vector<double>& weights, int64_t count) {
  std::vector<int64_t> taken(weights.size());
  std::vector<int> sources;
  for (int64_t i = 0; i < count; ++i) {
    const double samples = std::max(static_cast<double>(i), 1.0);
    size_t best = 0;
    double largest = weights[0] * samples - static_cast<double>(taken[0]);
    for (size_t d = 1; d < weights.size(); ++d) {
      const double lag = weights[d] * samples - static_cast<double>(taken[d]);
      if (lag > largest) largest = lag, best = d;
    }
    ++taken[best];
    sources.push_back(static_cast<int>(best));
  }
  return sources;
}

TEST(Blend, ChoosesAsMegatronDoes) {
  for (const std::vector<double>& weights :
       {std::vector<double>{0.5, 0.5}, {0.75, 0.25}, {0.125, 0.5, 0.375}, {0.0625, 0.9375}}) {
    const Blend blend(weights);
    const std::vector<int> expected = megatron_sources(weights, 1000);
    for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(blend.at(i).source, expected[static_cast<size_t>(i)]) << i;
  }
}

TEST(Blend, APlaceDependsOnItsPositionAlone) {
  const std::vector<double> weights = {7, 2, 1};
  const Blend forward(weights);
  std::vector<Blend::Place> places;
  std::vector<int64_t> counts(3);
  for (int64_t i = 0; i < 10000; ++i) {
    places.push_back(forward.at(i));
    EXPECT_EQ(places.back().index, counts[static_cast<size_t>(places.back().source)]++);
    // No source is ever more than its fair share behind or ahead by a whole round.
    for (size_t d = 0; d < 3; ++d) {
      EXPECT_LT(std::abs(static_cast<double>(counts[d]) - weights[d] / 10 * static_cast<double>(i + 1)), 2);
    }
  }
  const Blend jumping({0.7, 0.2, 0.1});  // the same shares in another unit
  for (const int64_t i : {9999, 0, 4096, 4095, 8192, 17, 9998, 9999, 5000}) {
    const Blend::Place place = jumping.at(i);
    EXPECT_EQ(place.source, places[static_cast<size_t>(i)].source) << i;
    EXPECT_EQ(place.index, places[static_cast<size_t>(i)].index) << i;
  }
}

TEST(Blend, MayBeReadFromSeveralThreads) {
  const Blend shared({0.6, 0.4}), alone({0.6, 0.4});
  std::vector<Blend::Place> places(20000);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < places.size(); i += 4) places[i] = shared.at(static_cast<int64_t>(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < places.size(); ++i) ASSERT_EQ(places[i].index, alone.at(static_cast<int64_t>(i)).index) << i;
}

TEST(Blend, RefusesWeightsThatAreNone) {
  EXPECT_THROW(Blend({1, 0}), ConfigError);
  EXPECT_THROW(Blend({1, -1}), ConfigError);
  EXPECT_THROW(Blend({1, std::numeric_limits<double>::quiet_NaN()}), ConfigError);
  EXPECT_THROW(Blend({1, std::numeric_limits<double>::infinity()}), ConfigError);
  EXPECT_THROW(Blend({1, 1e-12}), ConfigError);
}

}  // namespace
}  // namespace mmoe
