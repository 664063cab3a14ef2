#include "sim/schedule/passes.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

#include "tests/sim/schedule/example_pipelines.h"

namespace mmoe {
namespace {

// "F0 F1 B0": forward, backward (b and w when split) of a micro-batch, ".1" for chunk 1.
std::string text_of(std::span<const Pass> passes) {
  std::string text;
  for (const Pass& pass : passes) {
    if (!text.empty()) text += ' ';
    text += "FBbw"[static_cast<int>(pass.kind)];
    text += std::to_string(pass.micro_batch);
    if (pass.chunk > 0) text.append(".").append(std::to_string(pass.chunk));
  }
  return text;
}

TEST(PipelinePasses, OneForwardOneBackwardByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kOneForwardOneBackward, 3, 1, 4});
  EXPECT_EQ(text_of(passes.of_rank(0)), "F0 F1 F2 B0 F3 B1 B2 B3");
  EXPECT_EQ(text_of(passes.of_rank(1)), "F0 F1 B0 F2 B1 F3 B2 B3");
  EXPECT_EQ(text_of(passes.of_rank(2)), "F0 B0 F1 B1 F2 B2 F3 B3");
}

// Megatron-Core, two ranks with two chunks: warm-up 2 (p - rank - 1) + (v - 1) group. The second case has a group of 3
// and a last group of 2.
TEST(PipelinePasses, InterleavedByHand) {
  const PipelinePasses even = pipeline_passes({PipelineSchedule::kInterleaved, 2, 2, 4});
  EXPECT_EQ(text_of(even.of_rank(0)), "F0 F1 F0.1 F1.1 F2 B0.1 F3 B1.1 F2.1 B0 F3.1 B1 B2.1 B3.1 B2 B3");
  EXPECT_EQ(text_of(even.of_rank(1)), "F0 F1 F0.1 B0.1 F1.1 B1.1 F2 B0 F3 B1 F2.1 B2.1 F3.1 B3.1 B2 B3");
  const PipelinePasses uneven = pipeline_passes({PipelineSchedule::kInterleaved, 2, 2, 5, 3});
  EXPECT_EQ(text_of(uneven.of_rank(1)),
            "F0 F1 F2 F0.1 B0.1 F1.1 B1.1 F2.1 B2.1 F3 B0 F4 B1 F3.1 B2 F4.1 B3.1 B4.1 B3 B4");
}

// Qi et al. 2023 (arXiv:2401.10241), figure 3: the weight gradients of rank r lag r micro-batches.
TEST(PipelinePasses, ZeroBubbleByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kZeroBubble, 3, 1, 4});
  EXPECT_EQ(text_of(passes.of_rank(0)), "F0 F1 F2 b0 w0 F3 b1 w1 b2 w2 b3 w3");
  EXPECT_EQ(text_of(passes.of_rank(1)), "F0 F1 b0 F2 b1 w0 F3 b2 w1 b3 w2 w3");
  EXPECT_EQ(text_of(passes.of_rank(2)), "F0 b0 F1 b1 F2 b2 w0 F3 b3 w1 w2 w3");
}

TEST(PipelinePasses, VShapedZeroBubbleByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kZeroBubble, 2, 2, 3});
  EXPECT_EQ(text_of(passes.of_rank(0)), "F0 F1 F2 F0.1 b0.1 w0.1 F1.1 b1.1 w1.1 b0 w0 F2.1 b2.1 w2.1 b1 w1 b2 w2");
  EXPECT_EQ(text_of(passes.of_rank(1)), "F0 F0.1 F1 F1.1 b0.1 w0.1 F2 b0 w0 F2.1 b1.1 w1.1 b1 b2.1 b2 w1 w2.1 w2");
}

TEST(PipelineShape, StagesAndRanksBelongTogether) {
  for (const PipelineShape& shape : {PipelineShape{PipelineSchedule::kInterleaved, 3, 4, 3},
                                     PipelineShape{PipelineSchedule::kZeroBubble, 5, 2, 7}}) {
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      for (int64_t chunk = 0; chunk < shape.virtual_pipeline; ++chunk) {
        EXPECT_EQ(shape.rank_of(shape.stage(rank, chunk)), rank);
        EXPECT_EQ(shape.chunk_of(shape.stage(rank, chunk)), chunk);
      }
    }
  }
}

TEST(PipelineShape, RefusesWhatMegatronRefuses) {
  const auto interleaved = [](int64_t p, int64_t v, int64_t m, int64_t group) {
    return PipelineShape{PipelineSchedule::kInterleaved, p, v, m, group}.is_valid();
  };
  EXPECT_TRUE(interleaved(4, 2, 8, 0));
  EXPECT_FALSE(interleaved(4, 2, 9, 0)) << "a last group of one micro-batch";
  EXPECT_TRUE(interleaved(4, 2, 9, 5)) << "a last group of four";
  EXPECT_FALSE(interleaved(4, 2, 8, 3)) << "a group smaller than the pipeline";
  EXPECT_FALSE(interleaved(4, 2, 3, 0)) << "a group larger than the step";
  EXPECT_FALSE(interleaved(4, 1, 8, 0));
  EXPECT_FALSE((PipelineShape{PipelineSchedule::kOneForwardOneBackward, 4, 2, 8}.is_valid()));
  EXPECT_FALSE((PipelineShape{PipelineSchedule::kZeroBubble, 4, 3, 8}.is_valid()));
}

// Every micro-batch goes through every chunk once, forward first; link_passes itself stops on a deadlock.
TEST(PipelinePasses, AreCompleteAndFinishForRandomShapes) {
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    const PipelineShape shape = random_shape(random);
    ASSERT_TRUE(shape.is_valid());
    const PipelinePasses passes = pipeline_passes(shape);
    const int64_t kinds = shape.splits_backward() ? 3 : 2;
    ASSERT_EQ(static_cast<int64_t>(passes.passes.size()), kinds * shape.num_stages() * shape.num_micro_batches);
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      std::set<std::tuple<PassKind, int32_t, int32_t>> met;
      for (const Pass& pass : passes.of_rank(rank)) {
        const bool forward = pass.kind == PassKind::kForward, weight = pass.kind == PassKind::kBackwardWeight;
        const PassKind before = weight ? PassKind::kBackwardInput : PassKind::kForward;
        EXPECT_TRUE(forward || met.contains({before, pass.micro_batch, pass.chunk}));
        EXPECT_TRUE(met.insert({pass.kind, pass.micro_batch, pass.chunk}).second);
      }
    }
  }
}

TEST(LinkPasses, StopsOnDeadlockAndOnWrongLists) {
  const PipelineShape shape{PipelineSchedule::kOneForwardOneBackward, 2, 1, 2};
  const auto pass = [](PassKind kind, int32_t micro_batch) { return Pass{kind, micro_batch, 0}; };
  const Pass f0 = pass(PassKind::kForward, 0), f1 = pass(PassKind::kForward, 1);
  const Pass b0 = pass(PassKind::kBackward, 0), b1 = pass(PassKind::kBackward, 1);
  EXPECT_NO_THROW(link_passes(shape, {{f0, f1, b0, b1}, {f0, b0, f1, b1}}));
  EXPECT_THROW(link_passes(shape, {{f0, b0, f1, b1}, {f0, f1, b0, b1}}), std::logic_error) << "0 waits for 1 for 0";
  EXPECT_THROW(link_passes(shape, {{f0, f1, b0, b1}, {f0, f1, b0}}), std::logic_error) << "a pass is missing";
  EXPECT_THROW(link_passes(shape, {{f0, f1, b0, b1}, {b0, f0, f1, b1}}), std::logic_error) << "backward first";
  EXPECT_THROW(link_passes(shape, {{f0, f0, b0, b1}, {f0, b0, f1, b1}}), std::logic_error) << "twice";
}

}  // namespace
}  // namespace mmoe
