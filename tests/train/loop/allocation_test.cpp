#include "train/loop/allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "sim/units/errors.h"
#include "tests/train/loop/tiny_model.h"
#include "train/data/dataset.h"

namespace mmoe {
namespace {

using Ks = std::vector<int>;
using Kind = AllocationTarget::Kind;

class AllocationTest : public testing::Test {
 protected:
  AllocationTest() : job_(tiny_job()), trainer_(job_, c10::kCPU), costs_(flops_cost(job_.model, 16, 1, 4)) {
    build_tiny_data(folder_, folder_.file("data"));
    const Dataset data(folder_.file("data"));
    const Batches batches(data.tokens(Split::kTrain), 16, 7);
    for (int step = 1; step <= 5; ++step) trainer_.run_step(step, 5, batches);
    options_.native_k = 4;
    options_.batch = 16;
  }

  Allocation run(Kind kind, double value) {
    const Dataset data(folder_.file("data"));
    const EvaluationWindows search(data.tokens(Split::kSearch), data.tokenizer(), 16);
    const EvaluationWindows test(data.tokens(Split::kTest), data.tokenizer(), 16);
    options_.target = {kind, value};
    return allocate(trainer_.transformer(), search, test, costs_, options_);
  }

  TemporaryFolder folder_;
  Job job_;
  Trainer trainer_;
  AllocationCost costs_;
  AllocationOptions options_;
};

TEST_F(AllocationTest, ReportsWhatTheEvaluationsGive) {
  const Allocation found = run(Kind::kMeanK, 2.5);
  const int sum = std::accumulate(found.k_per_layer.begin(), found.k_per_layer.end(), 0);
  EXPECT_LE(sum, 7);  // floor(2.5 * 3)
  EXPECT_EQ(found.uniform_k_per_layer, uniform_mix(3, sum));
  const Dataset data(folder_.file("data"));
  const EvaluationWindows search(data.tokens(Split::kSearch), data.tokenizer(), 16);
  const EvaluationWindows test(data.tokens(Split::kTest), data.tokenizer(), 16);
  const auto loss = [&](const EvaluationWindows& windows, const Ks& k) {
    return evaluate(trainer_.transformer(), windows, k, 0, 16).loss;
  };
  EXPECT_EQ(found.search_loss, loss(search, found.k_per_layer));
  EXPECT_EQ(found.verified.loss, loss(test, found.k_per_layer));
  EXPECT_EQ(found.uniform.loss, loss(test, found.uniform_k_per_layer));
  EXPECT_EQ(found.native.loss, loss(test, {4, 4, 4}));
  EXPECT_EQ(found.sensitivities.base_k, 2);  // the mean of the mix, 7 / 3, rounded
  EXPECT_EQ(found.sensitivities.increase[1][3], loss(search, {2, 4, 2}) - loss(search, {2, 2, 2}));
  EXPECT_LE(found.search_loss, loss(search, found.uniform_k_per_layer));
  // Two ways to sum the same window losses.
  EXPECT_NEAR(found.difference.mean, found.verified.loss - found.uniform.loss, 1e-12);
}

TEST_F(AllocationTest, TheOnlyAllocationEqualsUniformAndIsAsGood) {
  const Allocation found = run(Kind::kMeanK, 1);
  EXPECT_EQ(found.k_per_layer, Ks({1, 1, 1}));
  EXPECT_EQ(found.uniform_k_per_layer, found.k_per_layer);
  EXPECT_EQ(found.difference.mean, 0);
  EXPECT_EQ(found.difference.low, 0);
  EXPECT_EQ(found.difference.high, 0);
  EXPECT_EQ(found.verdict, AllocationVerdict::kAsGood);
  // The resolution is that of the comparison with the runner-up, which is another allocation.
  ASSERT_TRUE(found.smallest_resolvable.has_value());
  EXPECT_GT(*found.smallest_resolvable, 0);
  EXPECT_NE(found.runner_up_k_per_layer, found.k_per_layer);
}

// Permuting the test split's tokens changes the verdict's losses and nothing else.
TEST_F(AllocationTest, TheSearchNeverSeesTheTestSplit) {
  const Allocation before = run(Kind::kMeanK, 2.4);
  std::string bytes = folder_.read("data.test.bin");
  ASSERT_GT(bytes.size(), 100u);
  std::vector<uint16_t> tokens(bytes.size() / 2);
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  std::reverse(tokens.begin(), tokens.end());
  std::memcpy(bytes.data(), tokens.data(), bytes.size());
  folder_.write("data.test.bin", bytes);
  const Allocation after = run(Kind::kMeanK, 2.4);
  EXPECT_EQ(after.k_per_layer, before.k_per_layer);
  EXPECT_EQ(after.predicted_loss, before.predicted_loss);
  EXPECT_EQ(after.search_loss, before.search_loss);
  EXPECT_EQ(after.sensitivities.increase, before.sensitivities.increase);
  EXPECT_NE(after.verified.loss, before.verified.loss);
}

TEST_F(AllocationTest, KeepsALossLimitAtTheLeastCost) {
  const Allocation tight = run(Kind::kMaxLossIncrease, 0), loose = run(Kind::kMaxLossIncrease, 10);
  EXPECT_LE(tight.search_loss, *tight.loss_limit);
  EXPECT_EQ(loose.k_per_layer, Ks({1, 1, 1}));  // anything is allowed: the cheapest
  EXPECT_LE(costs_.total(loose.k_per_layer), costs_.total(tight.k_per_layer));
  EXPECT_EQ(loose.budget, costs_.uniform(1));
}

TEST_F(AllocationTest, KeepsAFractionOfTheCost) {
  const Allocation found = run(Kind::kCostFraction, 0.9);
  EXPECT_LE(costs_.total(found.k_per_layer), 0.9 * costs_.uniform(4) * (1 + 1e-9));
}

TEST_F(AllocationTest, NamesTheLeastThatIsPossible) {
  const std::string mean = message_of<ConfigError>([&] { run(Kind::kMeanK, 0.5); });
  EXPECT_NE(mean.find("--mean-k 0.5"), std::string::npos) << mean;
  EXPECT_NE(mean.find("least possible mean is 1"), std::string::npos) << mean;
  EXPECT_FALSE(message_of<ConfigError>([&] { run(Kind::kMeanK, 4.5); }).empty());
  const std::string fraction = message_of<ConfigError>([&] { run(Kind::kCostFraction, 0.01); });
  const auto at = fraction.find("least possible is ");
  ASSERT_NE(at, std::string::npos) << fraction;
  const double least = std::stod(fraction.substr(at + 18));
  EXPECT_NEAR(least, costs_.least() / costs_.uniform(4), 1e-3);
  EXPECT_NO_THROW(run(Kind::kCostFraction, least));  // the named fraction works
}

TEST_F(AllocationTest, CountsEvaluationsWithinTheBound) {
  int last = 0, bound = 0;
  options_.progress = [&](const std::string&, int done, int total) {
    EXPECT_EQ(done, last + 1);
    EXPECT_LE(done, total);
    if (bound == 0) bound = total;
    last = done;
  };
  run(Kind::kMeanK, 2.5);
  EXPECT_GE(last, 1 + 3 * 3 + 2);
  EXPECT_LE(last, bound);
}

TEST(VerdictOf, TakesTheIntervalsSide) {
  PairedDifference difference;
  difference.low = -2, difference.high = -1;
  EXPECT_EQ(verdict_of(difference), AllocationVerdict::kBetter);
  difference.high = 0.5;
  EXPECT_EQ(verdict_of(difference), AllocationVerdict::kAsGood);
  difference.low = 0.1;
  EXPECT_EQ(verdict_of(difference), AllocationVerdict::kWorse);
}

}  // namespace
}  // namespace mmoe
