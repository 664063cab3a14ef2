#include "sim/search/rejections.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

Rejection rejection(int64_t count, double excess) {
  Rejection one;
  one.count = count;
  one.least_excess_bytes = excess;
  one.closest = LayoutCandidate{};
  one.closest->peak_bytes = excess;
  return one;
}

TEST(Rejections, MergedOnesKeepTheClosest) {
  Rejection sum;
  for (const Rejection& part : {rejection(2, 30), Rejection{}, rejection(3, 10), rejection(1, 20)}) sum.merge(part);
  EXPECT_EQ(sum.count, 6);
  EXPECT_EQ(sum.least_excess_bytes, 10);
  EXPECT_EQ(sum.closest->peak_bytes, 10);
}

TEST(Rejections, AFamilyIsRejectedForItsValidLayoutsFirst) {
  std::map<FamilyKey, LayoutFamily> families;
  families[{1, 1}].fitting = 1;
  families[{1, 1}].rejected[kOverMemory] = rejection(9, 1);
  families[{2, 1}].rejected[kOverMemory] = rejection(1, 5);
  families[{2, 1}].rejected["impossible"] = rejection(8, 0);
  families[{4, 1}].rejected["impossible"].count = 8;
  families[{4, 1}].rejected["unlikely"].count = 2;
  const auto rejected = rejected_families(families);
  ASSERT_EQ(rejected.size(), 2);
  EXPECT_EQ(rejected.at(kOverMemory).at({2, 1}).least_excess_bytes, 5);
  EXPECT_EQ(rejected.at("impossible").at({4, 1}).count, 8);
  EXPECT_EQ(rejected.at(kOverMemory).size() + rejected.at("impossible").size(), 2);
  EXPECT_EQ(family_name({4, 1}), "pipeline 4 x tensor 1");
}

}  // namespace
}  // namespace mmoe
