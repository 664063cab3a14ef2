#include "train/loop/peak_guard.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(PeakGuard, IsQuietWhilePredictionsHold) {
  PeakGuard guard(Bytes{900}, Bytes{1000});
  EXPECT_FALSE(guard.observe(2, Bytes{500}, Bytes{500}));
  EXPECT_FALSE(guard.observe(3, Bytes{880}, Bytes{900}));
  EXPECT_EQ(guard.ratio(), 1);
  EXPECT_FALSE(guard.passes_limit());
}

// A small draw that is 20 % above its prediction tells that the worst one would not fit.
TEST(PeakGuard, ProjectsSmallDrawsOnTheWorstOne) {
  PeakGuard guard(Bytes{900}, Bytes{1000});
  const auto warning = guard.observe(7, Bytes{600}, Bytes{500});
  ASSERT_TRUE(warning);
  EXPECT_NE(warning->find("step 7"), std::string::npos);
  EXPECT_NE(warning->find("+20.0 %"), std::string::npos);
  EXPECT_DOUBLE_EQ(guard.projected_worst().value, 1080);
  EXPECT_FALSE(guard.observe(8, Bytes{600}, Bytes{500}));  // said before
  EXPECT_FALSE(guard.observe(9, Bytes{603}, Bytes{500}));  // 0.5 % more
  EXPECT_TRUE(guard.observe(10, Bytes{610}, Bytes{500}));  // 1.7 % more
  EXPECT_FALSE(guard.observe(11, Bytes{400}, Bytes{500}));
}

TEST(PeakGuard, KeepsItsRatioThroughANewBudget) {
  PeakGuard guard(Bytes{900}, Bytes{1000});
  ASSERT_TRUE(guard.observe(2, Bytes{600}, Bytes{500}));
  guard.set_predicted_worst(Bytes{800});
  EXPECT_DOUBLE_EQ(guard.projected_worst().value, 960);
  EXPECT_FALSE(guard.passes_limit());
  EXPECT_TRUE(guard.observe(3, Bytes{650}, Bytes{500}));
}

}  // namespace
}  // namespace mmoe
