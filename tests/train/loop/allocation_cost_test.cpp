#include "train/loop/allocation_cost.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sim/formulas/model_flops.h"
#include "tests/train/loop/tiny_model.h"

namespace mmoe {
namespace {

using Ks = std::vector<int>;

TEST(UniformMix, SpreadsTheHigherKEvenly) {
  EXPECT_EQ(uniform_mix(4, 8), Ks({2, 2, 2, 2}));
  EXPECT_EQ(uniform_mix(4, 10), Ks({2, 3, 2, 3}));
  EXPECT_EQ(uniform_mix(3, 4), Ks({1, 1, 2}));
  for (int layers = 1; layers <= 9; ++layers) {
    for (int sum = layers; sum <= 6 * layers; ++sum) {
      const Ks mix = uniform_mix(layers, sum);
      EXPECT_EQ(std::accumulate(mix.begin(), mix.end(), 0), sum);
      // Any first m layers hold within one of their even share.
      double prefix = 0;
      for (int m = 0; m < layers; ++m) {
        prefix += mix[m];
        EXPECT_LE(std::abs(prefix - (m + 1.0) * sum / layers), 1 - 0.5 / layers);
      }
    }
  }
}

TEST(AllocationCost, OfFlopsIsTheFormulas) {
  const Job job = tiny_job();
  const AllocationCost cost = flops_cost(job.model, 16, 2, 5);
  for (const Ks& k : {Ks{2, 2, 2}, Ks{5, 2, 4}, Ks{5, 5, 5}}) {
    const double expected = allocation_flops_per_token(job.model, 16, k).value;
    EXPECT_NEAR(cost.total(k), expected, 1e-12 * expected);  // a sum of four doubles
  }
  EXPECT_EQ(cost.least(), cost.uniform(2));
  EXPECT_EQ(cost.k_max(), 5);
}

TEST(AllocationCost, OfSecondsIsTheStepTimeModels) {
  const Job job = tiny_job();
  const StepTimeModel model(job, default_calibration(job.hardware.spec));
  const AllocationCost cost = seconds_cost(model, 2, 5);
  const double expected = model.forward_seconds({5, 2, 4}).value;
  EXPECT_NEAR(cost.total({5, 2, 4}), expected, 1e-12 * expected);
}

TEST(UniformMixOfCost, CostsTheSameWhereCostIsLinear) {
  const AllocationCost cost = flops_cost(tiny_job().model, 16, 1, 4);
  EXPECT_EQ(uniform_mix_of_cost(cost, cost.total({4, 1, 2})), uniform_mix(3, 7));
  EXPECT_EQ(uniform_mix_of_cost(cost, 10 * cost.uniform(4)), Ks({4, 4, 4}));
  EXPECT_EQ(largest_uniform_mix(cost, cost.total({4, 1, 2})), uniform_mix(3, 7));
  EXPECT_EQ(largest_uniform_mix(cost, 0.999 * cost.total({4, 1, 2})), uniform_mix(3, 6));
}

}  // namespace
}  // namespace mmoe
