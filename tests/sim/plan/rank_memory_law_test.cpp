#include "sim/plan/rank_memory_law.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

ElasticConfig uniform(Granularity granularity) {
  ElasticConfig config;
  config.k_min = 1;
  config.k_max = 6;
  config.granularity = granularity;
  return config;
}

// Three layers of each of two micro-batches: the sum of six independent draws.
TEST(InFlightLaw, IndependentLayersAndMicroBatches) {
  const ElasticLaw law(uniform(Granularity::kLayer), 8);
  const InFlightLaw in_flight = in_flight_law(law, {{{2, 3, 4}, 2}}, 10);
  const DiscreteLaw expected = law.free_draw().sum_of(6);
  for (int64_t sum = 6; sum <= 36; ++sum) EXPECT_NEAR(in_flight.sum.probability(sum), expected.probability(sum), 1e-12);
  EXPECT_EQ(in_flight.windows_per_step, 9);
}

// One k for all: the sum is a multiple of it, and every window of a step has the same.
TEST(InFlightLaw, OneDrawForTheWholeStep) {
  const ElasticLaw law(uniform(Granularity::kGlobalBatch), 8);
  const InFlightLaw in_flight = in_flight_law(law, {{{0, 1}, 3}}, 10);
  EXPECT_NEAR(in_flight.sum.probability(6), 1.0 / 6, 1e-12);
  EXPECT_NEAR(in_flight.sum.probability(7), 0, 1e-12);
  EXPECT_EQ(in_flight.sum.max(), 36);
  EXPECT_EQ(in_flight.windows_per_step, 1);
}

TEST(InFlightLaw, ChunksAddUp) {
  const ElasticLaw law(uniform(Granularity::kLayer), 8);
  const InFlightLaw in_flight = in_flight_law(law, {{{0, 1}, 2}, {{4, 5}, 1}, {{}, 4}}, 4);
  EXPECT_NEAR(in_flight.sum.mean(), 3.5 * 6, 1e-9);
  EXPECT_EQ(in_flight.sum.min(), 6);
}

}  // namespace
}  // namespace mmoe
