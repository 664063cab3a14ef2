#include "sim/elastic/in_flight_maximum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "sim/elastic/discrete_law.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

PipelinePasses passes_of(int64_t pipeline, int64_t chunks, int64_t micro_batches,
                         PipelineSchedule schedule = PipelineSchedule::kInterleaved) {
  return pipeline_passes({.schedule = chunks == 1 ? PipelineSchedule::kOneForwardOneBackward : schedule,
                          .pipeline = pipeline,
                          .virtual_pipeline = chunks,
                          .num_micro_batches = micro_batches});
}

struct Draw {
  std::vector<int64_t> cells;  // by chunk
  double probability;
};

// All that one micro-batch may draw, given that it keeps the bound.
std::vector<Draw> draws_of(const std::vector<ChunkLaw>& chunks, BudgetKind kind, int64_t bound) {
  std::vector<Draw> draws;
  double all = 0;
  std::vector<int64_t> cells;
  const std::function<void(int64_t, double)> descend = [&](int64_t sum, double p) {
    if (cells.size() == chunks.size()) {
      if (kind == BudgetKind::kExact ? sum != bound : sum > bound) return;
      all += p;
      draws.push_back({cells, p});
      return;
    }
    for (const ChunkOutcome& outcome : chunks[cells.size()]) {
      cells.push_back(outcome.cells);
      descend(sum + outcome.sum, p * outcome.probability);
      cells.pop_back();
    }
  };
  descend(0, 1);
  for (Draw& draw : draws) draw.probability /= all;
  return draws;
}

// [most cells held] -> probability, over all draws of all micro-batches.
std::map<int64_t, double> enumerated(const std::vector<ChunkLaw>& chunks, BudgetKind kind, int64_t bound,
                                     std::span<const Pass> order, size_t micro_batches) {
  const std::vector<Draw> draws = draws_of(chunks, kind, bound);
  std::map<int64_t, double> law;
  std::vector<const Draw*> chosen;
  const std::function<void(double)> descend = [&](double p) {
    if (chosen.size() < micro_batches) {
      for (const Draw& draw : draws) {
        chosen.push_back(&draw);
        descend(p * draw.probability);
        chosen.pop_back();
      }
      return;
    }
    int64_t held = 0, most = 0;
    for (const Pass& pass : order) {
      const int64_t cells = chosen[static_cast<size_t>(pass.micro_batch)]->cells[static_cast<size_t>(pass.chunk)];
      held += pass.kind == PassKind::kForward ? cells : pass.kind == PassKind::kBackwardInput ? 0 : -cells;
      most = std::max(most, held);
    }
    law[most] += p;
  };
  descend(1);
  return law;
}

double tail(const std::map<int64_t, double>& law, int64_t room) {
  double sum = 0;
  for (const auto& [cells, p] : law) sum += cells > room ? p : 0;
  return sum;
}

struct Case {
  int64_t pipeline, chunks, micro_batches;
  PipelineSchedule schedule = PipelineSchedule::kInterleaved;
};

// Chunks of one and two layers, with cells that are no straight line in k.
TEST(InFlightMaximum, AgreesWithEnumerationOfAllDraws) {
  const ElasticConfig config = elastic_config(1, 2, Granularity::kLayer, Sampling::kCapacityWeighted, 1);
  for (const Case& one : {Case{2, 2, 4}, Case{2, 1, 5}, Case{3, 1, 4}, Case{2, 2, 4, PipelineSchedule::kZeroBubble},
                          Case{2, 1, 4, PipelineSchedule::kZeroBubble}}) {
    std::vector<ChunkLaw> chunks = {chunk_law(config, 2, {1, 4})};
    if (one.chunks == 2) chunks.push_back(chunk_law(config, 1, {1, 4}));
    const PipelinePasses passes = passes_of(one.pipeline, one.chunks, one.micro_batches, one.schedule);
    for (int64_t rank = 0; rank < one.pipeline; ++rank) {
      for (const auto& [kind, bound] : {std::pair(BudgetKind::kAtMost, int64_t{3}),
                                        {BudgetKind::kAtMost, int64_t{1}},
                                        {BudgetKind::kExact, int64_t{2}}}) {
        const int64_t possible = std::min<int64_t>(bound, one.chunks == 2 ? 3 : 2);
        const auto law =
            enumerated(chunks, kind, possible, passes.of_rank(rank), static_cast<size_t>(one.micro_batches));
        for (int64_t room = 0; room <= law.rbegin()->first; ++room) {
          const auto found = in_flight_maximum_tail(chunks, kind, possible, passes.of_rank(rank), room);
          ASSERT_TRUE(found);
          EXPECT_EQ(found->standard_error, 0);
          EXPECT_NEAR(found->value, tail(law, room), 1e-13) << one.pipeline << one.chunks << ", rank " << rank;
        }
      }
    }
  }
}

// The same law with every outcome split into a hundred has the same probabilities, and too many states for the exact
// way.
TEST(InFlightMaximum, SamplesAgreeWithTheExactLaw) {
  const ElasticConfig config = elastic_config(1, 3);
  const std::vector<ChunkLaw> coarse = {chunk_law(config, 1, {0, 1, 2}), chunk_law(config, 1, {0, 1, 2})};
  std::vector<ChunkLaw> fine(2);
  for (size_t c = 0; c < 2; ++c) {
    for (const ChunkOutcome& outcome : coarse[c]) {
      for (int i = 0; i < 100; ++i) fine[c].push_back({outcome.sum, outcome.cells, outcome.probability / 100});
    }
  }
  const PipelinePasses passes = passes_of(2, 2, 12);
  for (const auto& [kind, bound] : {std::pair(BudgetKind::kAtMost, int64_t{4}), {BudgetKind::kAtMost, int64_t{2}}}) {
    for (const int64_t room : {6, 7, 8}) {
      const auto exact = in_flight_maximum_tail(coarse, kind, bound, passes.of_rank(0), room);
      const auto sampled = in_flight_maximum_tail(fine, kind, bound, passes.of_rank(0), room, 20000, 7);
      ASSERT_TRUE(exact && sampled);
      ASSERT_EQ(exact->standard_error, 0);
      if (exact->value == 0) continue;
      // Five standard errors: a false alarm of 6e-7 each, with a fixed seed.
      EXPECT_NEAR(sampled->value, exact->value, 5 * sampled->standard_error + 1e-12) << bound << ", " << room;
      EXPECT_LT(sampled->standard_error, 0.02 * exact->value) << bound << ", " << room;
    }
  }
}

// 1F1B holds a sliding window of micro-batches: one window at least passes as often as one alone, and independent
// windows bound it from above, since sums of independent draws are associated.
TEST(InFlightMaximum, LiesBetweenOneWindowAndAllOfThem) {
  const ElasticConfig config = elastic_config(1, 6);
  const std::vector<ChunkLaw> stage = {chunk_law(config, 14, {0, 1, 2, 3, 4, 5})};
  const PipelinePasses passes = passes_of(4, 1, 64);
  const DiscreteLaw window = DiscreteLaw(0, std::vector<double>(6, 1.0)).sum_of(14 * 4);
  for (const int64_t room : {174, 194, 214, 244}) {
    double one = 0;
    for (int64_t v = window.max(); v > room; --v) one += window.probability(v);
    const auto found = in_flight_maximum_tail(stage, BudgetKind::kAtMost, 70, passes.of_rank(0), room);
    ASSERT_TRUE(found);
    EXPECT_GE(found->value * (1 + 1e-9), one) << room;
    EXPECT_LE(found->value, 61 * one * (1 + 1e-9)) << room;
    EXPECT_LE(found->value - 5 * found->standard_error, -std::expm1(61 * std::log1p(-one)) * (1 + 1e-9)) << room;
  }
}

TEST(InFlightMaximum, CertainOutcomesAndOrdersThatAreNotNested) {
  const ElasticConfig config = elastic_config(1, 6);
  const std::vector<ChunkLaw> stage = {chunk_law(config, 2, {0, 1, 2, 3, 4, 5})};
  const PipelinePasses passes = passes_of(4, 1, 8);
  EXPECT_EQ(in_flight_maximum_tail(stage, BudgetKind::kAtMost, 10, passes.of_rank(0), 40)->value, 0);
  EXPECT_EQ(in_flight_maximum_tail(stage, BudgetKind::kAtMost, 10, passes.of_rank(0), -1)->value, 1);
  const std::vector<Pass> crossed = {
      {PassKind::kForward, 0, 0}, {PassKind::kForward, 0, 1}, {PassKind::kBackward, 0, 0}, {PassKind::kBackward, 0, 1}};
  EXPECT_FALSE(in_flight_maximum_tail({stage.front(), stage.front()}, BudgetKind::kAtMost, 10, crossed, 4));
}

}  // namespace
}  // namespace mmoe
