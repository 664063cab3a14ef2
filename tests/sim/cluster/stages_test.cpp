#include "sim/cluster/stages.h"

#include <gtest/gtest.h>

#include "sim/formulas/parameter_counts.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

RankWeights all_ranks(const Job& job) {
  const Framework framework = framework_of(job);
  RankWeights sum;
  for (const auto& chunks : pipeline_stages(job, framework)) sum += rank_weights(job, framework, chunks);
  return sum;
}

// Without tensor parallelism the ranks of a pipeline hold the model, each weight once.
TEST(Stages, RanksTogetherHoldTheModel) {
  const Job job = example_cluster_job(
      {{"parallelism.tensor", "1"}, {"parallelism.sequence", "false"}, {"parallelism.expert", "1"}});
  EXPECT_EQ(all_ranks(job).total(), parameter_counts(job.model).total());
}

TEST(Stages, ExpertParallelRanksHoldTheSameTotal) {
  const Job one = example_cluster_job({{"parallelism.expert", "1"}});
  for (const char* expert : {"2", "4", "8"}) {
    const Job many = example_cluster_job({{"parallelism.expert", expert}});
    EXPECT_EQ(all_ranks(many).expert * static_cast<double>(many.parallelism.expert), all_ranks(one).expert);
    EXPECT_EQ(all_ranks(many).dense, all_ranks(one).dense);
  }
}

TEST(Stages, ATiedHeadOnAnotherRankIsACopy) {
  const Job tied = example_cluster_job({{"model.tie_embeddings", "true"}});
  const Job untied = example_cluster_job();
  EXPECT_EQ(all_ranks(tied).total(), all_ranks(untied).total());
  const Job one = example_cluster_job({{"model.tie_embeddings", "true"}, {"parallelism.pipeline", "1"}});
  EXPECT_LT(all_ranks(one).total(), all_ranks(untied).total());
}

// DeepSeek-V3's prediction of further tokens shares embedding and head with the main model (arXiv:2412.19437, section
// 2.2). A depth adds a layer like the last one, a projection of 2 D x D and three norms of D (the same, equation 21,
// and the norm before the head); what stands on two ranks is held twice: the embedding where the head is elsewhere,
// which with a tied head is the head too.
TEST(Stages, MultiTokenPredictionSharesEmbeddingAndHead) {
  for (const bool tied : {false, true}) {
    for (const char* pipeline : {"1", "2", "4"}) {
      for (const char* depths : {"0", "1", "2"}) {
        const Job job = example_cluster_job({{"parallelism.tensor", "1"},
                                             {"parallelism.sequence", "false"},
                                             {"parallelism.expert", "1"},
                                             {"parallelism.pipeline", pipeline},
                                             {"model.num_mtp_layers", depths},
                                             {"model.tie_embeddings", tied ? "true" : "false"}});
        // Worked by hand, D = 1024: 16 heads of 64, 8 of keys and values; 16 experts of 3 D x 512, a router.
        const double D = 1024, table = 32768 * D;
        const double layer = D * (1024 + 2 * 512) + 1024 * D + 2 * D + 16 * D + 16 * 3 * D * 512;
        const double num_depths = depths[0] - '0', ranks = pipeline[0] - '0';
        const ParameterCounts counts = parameter_counts(job.model);
        double expected = counts.total() - counts.multi_token + num_depths * (layer + 2 * D * D + 3 * D);
        if (ranks > 1 && (tied || num_depths > 0)) expected += table;
        EXPECT_EQ(all_ranks(job).total(), expected) << tied << ", pipeline " << pipeline << ", depths " << depths;
      }
    }
  }
}

TEST(Stages, TheVShapedScheduleEndsWhereItBegan) {
  const Job job = example_cluster_job({{"parallelism.schedule", "zero_bubble"}, {"parallelism.virtual_pipeline", "2"}});
  const PipelineStages stages = pipeline_stages(job, framework_of(job));
  EXPECT_EQ(stages[0][1].first_layer, 6);
  EXPECT_TRUE(stages[0][0].embedding && stages[0][1].head);
  EXPECT_FALSE(stages[1][1].head);
}

TEST(Stages, GivenLengthsAreKept) {
  const Job job = example_cluster_job({{"parallelism.stage_layers", "[5,3]"}});
  const PipelineStages stages = pipeline_stages(job, framework_of(job));
  EXPECT_EQ(stages[0][0].num_layers, 5);
  EXPECT_EQ(stages[0][0].num_dense_layers(job.model), 2);
  EXPECT_EQ(stages[0][0].num_moe_layers(job.model), 3);
  EXPECT_TRUE(stages[0][0].embedding);
  EXPECT_TRUE(stages[1][0].head);
}

// Worked by hand: layers cost 4 + 3 x 4 = 16 D^2, the head 32 D^2, all of it 160: a stage ends at 80, after 5 layers.
TEST(Stages, CutByCostAdvancesWhenAStageHasItsShare) {
  nlohmann::json json = example_cluster_json();
  json["model"] = {
      {"hidden_size", 1024}, {"num_layers", 8}, {"num_heads", 16}, {"vocab_size", 32768}, {"dense_hidden_size", 4096}};
  json["parallelism"] = {{"pipeline", 2}};
  json["training"]["framework"] = "nanotron";
  json.erase("elastic");
  const Job job = parse_job(json, "job.json", "/");
  const PipelineStages stages = pipeline_stages(job, framework_of(job));
  EXPECT_EQ(stages[0][0].num_layers, 5);
  EXPECT_EQ(stages[1][0].num_layers, 3);
}

}  // namespace
}  // namespace mmoe
