#include "sim/cluster/rank_shapes.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(RankShapes, TensorParallelismSplitsHeadsWidthsAndVocabulary) {
  const Job job = example_cluster_job();
  const RankShapes s = rank_shapes(job, framework_of(job));
  EXPECT_EQ(s.tokens, 2048);
  EXPECT_EQ(s.split_tokens, 1024);
  EXPECT_EQ(s.heads, 8);
  EXPECT_EQ(s.kv_heads, 4);
  EXPECT_EQ(s.dense_hidden_size, 2048);
  EXPECT_EQ(s.vocabulary, 16384);
  EXPECT_EQ(s.local_experts, 4);
  EXPECT_EQ(s.rows_per_k, 1024);  // each of two tensor ranks sends its half of the tokens
}

TEST(RankShapes, AVocabularyThatIsNotSplitSeesTheRanksOwnTokens) {
  const Job job = example_cluster_job();
  Framework framework = framework_of(job);
  EXPECT_EQ(rank_shapes(job, framework).head_tokens, 2048);
  framework.splits_vocabulary = false;
  const RankShapes s = rank_shapes(job, framework);
  EXPECT_EQ(s.vocabulary, 32768);
  EXPECT_EQ(s.head_tokens, 1024);
}

TEST(RankShapes, ExpertTensorRanksGatherTheRowsOfTheirGroup) {
  const Job job = example_cluster_job({{"parallelism.expert_tensor", "2"}});
  const RankShapes s = rank_shapes(job, framework_of(job));
  EXPECT_EQ(s.expert_hidden_size, 256);
  EXPECT_EQ(s.rows_per_k, 2048);
}

TEST(RankShapes, ContextParallelismSplitsTokensAndKeepsTheSequence) {
  const Job job = example_cluster_job({{"parallelism.context", "4"}});
  const RankShapes s = rank_shapes(job, framework_of(job));
  EXPECT_EQ(s.tokens, 512);
  EXPECT_EQ(s.seq_len, 2048);
}

}  // namespace
}  // namespace mmoe
