#include "train/loop/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

using Ks = std::vector<int>;

double additive(const Ks& k) { return 2 + 1.0 / k[0] + 0.5 / k[1] + 0.25 / k[2]; }

TEST(Sensitivities, PredictALossWithoutInteractionsExactly) {
  int calls = 0;
  MeasuredLosses losses([&](const Ks& k) {
    ++calls;
    return additive(k);
  });
  const Sensitivities found = measure_sensitivities(losses, 3, 3, 2, 5);
  EXPECT_EQ(calls, 1 + 3 * 3);
  EXPECT_EQ(found.base_loss, additive({3, 3, 3}));
  ASSERT_EQ(found.increase.size(), 3u);
  for (const auto& layer : found.increase) {
    ASSERT_EQ(layer.size(), 4u);
    EXPECT_EQ(layer[1], 0);
    EXPECT_GT(layer[0], 0);
    EXPECT_LT(layer[3], 0);
  }
  EXPECT_NEAR(found.increase[0][0], 1.0 / 2 - 1.0 / 3, 1e-14);
  EXPECT_NEAR(found.predicted_loss({5, 2, 4}), additive({5, 2, 4}), 1e-14);  // a dozen sums of numbers near 3
}

TEST(MeasuredLosses, MeasuresEachAllocationOnce) {
  int calls = 0;
  MeasuredLosses losses([&](const Ks& k) {
    ++calls;
    return additive(k);
  });
  EXPECT_EQ(losses.at({1, 2, 3}), losses.at({1, 2, 3}));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(losses.knows({1, 2, 3}));
  EXPECT_FALSE(losses.knows({3, 2, 1}));
}

TEST(MeasuredLosses, RefusesALossThatIsNotFinite) {
  MeasuredLosses losses([](const Ks&) { return std::nan(""); });
  EXPECT_NE(message_of<ConfigError>([&] { losses.at({1}); }).find("diverged"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
