#include "train/data/sample_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace mmoe {
namespace {

std::vector<int64_t> epoch(const SampleOrder& order, int64_t which) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < order.num_samples(); ++i) samples.push_back(order.sample(which * order.num_samples() + i));
  return samples;
}

TEST(SampleOrder, IsAPermutationInEveryEpoch) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 1023, 4097}) {
    const SampleOrder order(size, 42);
    for (const int64_t which : {0, 1, 7}) {
      const std::vector<int64_t> samples = epoch(order, which);
      const std::set<int64_t> distinct(samples.begin(), samples.end());
      EXPECT_EQ(static_cast<int64_t>(distinct.size()), size);
      EXPECT_EQ(*distinct.begin(), 0);
      EXPECT_EQ(*distinct.rbegin(), size - 1);
    }
  }
}

TEST(SampleOrder, DependsOnSeedAndEpoch) {
  EXPECT_NE(epoch(SampleOrder(100, 1), 0), epoch(SampleOrder(100, 2), 0));
  EXPECT_NE(epoch(SampleOrder(100, 1), 0), epoch(SampleOrder(100, 1), 1));
  EXPECT_EQ(epoch(SampleOrder(100, 1), 3), epoch(SampleOrder(100, 1), 3));
}

// Chi-squared of where place 0 of 20,000 epochs of 10 samples falls: 9 degrees of freedom, 99.99 % quantile 33.7.
TEST(SampleOrder, PlacesAreUniformOverEpochs) {
  constexpr int64_t kEpochs = 20000, kSamples = 10;
  for (const int64_t place : {0, 9}) {
    std::vector<double> counts(kSamples);
    const SampleOrder order(kSamples, 3);
    for (int64_t i = 0; i < kEpochs; ++i) ++counts[static_cast<size_t>(order.sample(i * kSamples + place))];
    double chi_squared = 0;
    for (const double count : counts) chi_squared += std::pow(count - kEpochs / kSamples, 2) / (kEpochs / kSamples);
    EXPECT_LT(chi_squared, 33.7) << place;
  }
}

// Neighbours in the text must not be neighbours in training: of n random successors, one is the next sample on average.
TEST(SampleOrder, BreaksUpNeighbours) {
  const std::vector<int64_t> samples = epoch(SampleOrder(10000, 9), 0);
  int successors = 0;
  for (size_t i = 1; i < samples.size(); ++i) successors += samples[i] == samples[i - 1] + 1;
  EXPECT_LE(successors, 10);  // Poisson with mean 1: more than 10 has probability 1e-8
}

// A resumed run goes on in this order, so it must never change.
TEST(SampleOrder, IsFixedForAllTime) {
  const std::vector<int64_t> samples = epoch(SampleOrder(8, 1234), 0);
  EXPECT_EQ(samples, (std::vector<int64_t>{1, 7, 6, 2, 0, 5, 4, 3}));
}

}  // namespace
}  // namespace mmoe
