#include "sim/plan/rank_memory_law.h"

#include <gtest/gtest.h>

#include "sim/cluster/step_time.h"
#include "sim/schedule/in_flight.h"
#include "tests/sim/cluster/example_cluster_job.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

const std::vector<int64_t> kStraight = {0, 1, 2, 3, 4, 5};

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
  const InFlightLaw in_flight = in_flight_law(law, {{{2, 3, 4}, 2}}, 10, kStraight);
  const DiscreteLaw expected = law.free_draw().sum_of(6);
  for (int64_t sum = 0; sum <= 30; ++sum) {
    EXPECT_NEAR(in_flight.sum.probability(sum), expected.probability(sum + 6), 1e-12);
  }
  EXPECT_EQ(in_flight.windows_per_step, 9);
}

// One k for all: the sum is a multiple of it, and every window of a step has the same.
TEST(InFlightLaw, OneDrawForTheWholeStep) {
  const ElasticLaw law(uniform(Granularity::kGlobalBatch), 8);
  const InFlightLaw in_flight = in_flight_law(law, {{{0, 1}, 3}}, 10, kStraight);
  EXPECT_NEAR(in_flight.sum.probability(6), 1.0 / 6, 1e-12);
  EXPECT_NEAR(in_flight.sum.probability(7), 0, 1e-12);
  EXPECT_EQ(in_flight.sum.max(), 30);
  EXPECT_EQ(in_flight.windows_per_step, 1);
}

TEST(InFlightLaw, ChunksAddUp) {
  const ElasticLaw law(uniform(Granularity::kLayer), 8);
  const InFlightLaw in_flight = in_flight_law(law, {{{0, 1}, 2}, {{4, 5}, 1}, {{}, 4}}, 4, kStraight);
  EXPECT_NEAR(in_flight.sum.mean(), 2.5 * 6, 1e-9);
  EXPECT_EQ(in_flight.sum.min(), 0);
}

// Layers 0 and 2 of a group whose budget couples all four, and one of another group; cells that are no line in k.
TEST(InFlightLaw, AgreesWithEnumerationUnderABudget) {
  for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
    const ElasticConfig config = with_budget(elastic_config(1, 3), kind, {4, 2}, {8, 4});
    const std::vector<int64_t> cells = {0, 5, 7};
    std::vector<double> expected(22, 0.0);
    for (const auto& [k, p] : enumerate(config, 6)) {
      expected[static_cast<size_t>(cells[k[0] - 1] + cells[k[2] - 1] + cells[k[5] - 1])] += p;
    }
    const InFlightLaw in_flight = in_flight_law(ElasticLaw(config, 6), {{{0, 2, 5}, 1}}, 4, cells);
    for (int64_t v = 0; v < 22; ++v) {
      EXPECT_NEAR(in_flight.sum.probability(v), expected[static_cast<size_t>(v)], 1e-12) << v;
    }
  }
}

// The chunks of the schedule's own passes when the rank first holds as many as it ever does.
TEST(ElasticChunks, AreInFlightAsThePassesSay) {
  for (const Overrides& overrides : {Overrides{{"parallelism.pipeline", "4"},
                                               {"parallelism.schedule", "interleaved"},
                                               {"parallelism.virtual_pipeline", "2"}},
                                     Overrides{{"parallelism.pipeline", "2"}}}) {
    nlohmann::json json = example_cluster_json();
    json["model"]["num_layers"] = 16;
    const Job job = parse_job(json, "job.json", "/", overrides);
    const PipelineShape shape = pipeline_shape(job);
    const PipelinePasses passes = pipeline_passes(shape);
    const PipelineStages stages = pipeline_stages(job, framework_of(job));
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      const ChunksInFlight most = chunks_in_flight(shape, rank);
      std::vector<int64_t> held(static_cast<size_t>(shape.virtual_pipeline), 0);
      int64_t all = 0;
      for (const Pass& pass : passes.of_rank(rank)) {
        const int64_t change = pass.kind == PassKind::kForward ? 1 : -1;
        held[static_cast<size_t>(pass.chunk)] += change;
        if ((all += change) == most.total()) break;
      }
      const std::vector<ElasticChunk> chunks = elastic_chunks(job, stages[static_cast<size_t>(rank)], rank);
      ASSERT_EQ(chunks.size(), held.size());
      for (size_t c = 0; c < held.size(); ++c) EXPECT_EQ(chunks[c].in_flight, held[c]) << rank << ", chunk " << c;
    }
  }
}

}  // namespace
}  // namespace mmoe
