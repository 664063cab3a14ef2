#include "train/loop/evaluate.h"

#include "tests/train/data/temporary_folder.h"
#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

// Ninety-one byte tokens and windows of 16: five whole windows of targets and one of ten.
class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest() {
    const at::Tensor tokens = random_tokens({kTokens}, 96, 5);
    TokenFileWriter writer(folder_.file("t"), 256);
    writer.add_document({tokens.data_ptr<int32_t>(), kTokens});
    writer.sync();
    writer.publish();
    text = tokens;
  }

  static constexpr int64_t kTokens = 91;
  TemporaryFolder folder_;
  at::Tensor text;
  const Job job = small_job();
  Transformer transformer{job, c10::kCPU, Gradients::kNone};
};

TEST_F(EvaluateTest, IsTheMeanOfThePlainModelsTokenLosses) {
  const TokenFile file(folder_.file("t"), 256);
  const auto tokenizer = make_byte_tokenizer();
  const EvaluationWindows windows(file, *tokenizer, 16);
  std::map<std::string, at::Tensor> weights;
  for (const Parameter& parameter : transformer.parameters().all()) weights[parameter.name] = parameter.master;
  const std::vector<int> k = {2, 5};
  for (const int64_t batch : {1, 4, 100}) {
    const Evaluation evaluation = evaluate(transformer, windows, k, 0, batch);
    ASSERT_EQ(evaluation.window_losses.size(), 6U);
    double total = 0;
    for (int64_t w = 0; w < 6; ++w) {
      const int64_t count = w < 5 ? 16 : 10;
      at::Tensor input = at::zeros({16}, at::kInt), target = at::zeros({16}, at::kInt).fill_(-100);
      input.narrow(0, 0, count).copy_(text.narrow(0, 16 * w, count));
      target.narrow(0, 0, count).copy_(text.narrow(0, 16 * w + 1, count));
      const double loss = plain::transformer(job, weights, input, target, k).losses_T.sum().item<double>();
      // As for the whole model (transformer_test.cpp), for two layers.
      EXPECT_NEAR(evaluation.window_losses[w], loss, tolerance(at::kDouble, 2 * 10 * 64 + 200, 120) * loss) << w;
      EXPECT_EQ(evaluation.window_tokens[w], count);
      total += evaluation.window_losses[w];
    }
    EXPECT_EQ(evaluation.tokens, 90);
    EXPECT_DOUBLE_EQ(evaluation.loss, total / 90);
    EXPECT_DOUBLE_EQ(evaluation.bits_per_byte, total / 90 / std::log(2.0));  // a token is a byte
  }
}

// Two documents in one window, kept apart, are predicted as each is alone: attention and rotary positions start anew.
TEST_F(EvaluateTest, DocumentsKeptApartAreEvaluatedAsAlone) {
  const auto tokenizer = make_byte_tokenizer();
  const auto write = [&](const char* name, const std::vector<std::pair<int64_t, int64_t>>& documents) {
    TokenFileWriter writer(folder_.file(name), 256);
    for (const auto& [first, length] : documents) {
      writer.add_document({text.data_ptr<int32_t>() + first, static_cast<size_t>(length)});
    }
    writer.sync();
    writer.publish();
    return TokenFile(folder_.file(name), 256);
  };
  const auto loss = [&](const TokenFile& file, Documents documents) {
    return evaluate(transformer, EvaluationWindows(file, *tokenizer, 16, documents), {3, 2}, 0, 4);
  };
  const TokenFile both = write("both", {{20, 6}, {50, 11}}), first = write("first", {{20, 6}}),
                  second = write("second", {{50, 11}});
  const Evaluation a = loss(first, Documents::kRunOn), b = loss(second, Documents::kRunOn);
  const Evaluation apart = loss(both, Documents::kApart), run_on = loss(both, Documents::kRunOn);
  EXPECT_EQ(apart.tokens, 5 + 10);
  EXPECT_EQ(run_on.tokens, 16);
  const double total = a.window_losses[0] + b.window_losses[0];
  // As above, for two layers, and the rotation by another angle.
  EXPECT_NEAR(apart.window_losses[0], total, tolerance(at::kDouble, 2 * 10 * 64 + 200, 140) * total);
  EXPECT_GT(std::abs(run_on.window_losses[0] - total), 1e-3);
}

TEST_F(EvaluateTest, TakesTheFirstWindowsAndFollowsK) {
  const TokenFile file(folder_.file("t"), 256);
  const auto tokenizer = make_byte_tokenizer();
  const EvaluationWindows windows(file, *tokenizer, 16);
  const Evaluation all = evaluate(transformer, windows, {3, 3}, 0, 2);
  const Evaluation some = evaluate(transformer, windows, {3, 3}, 3, 2);
  ASSERT_EQ(some.window_losses.size(), 3U);
  EXPECT_EQ(some.tokens, 48);
  for (size_t w = 0; w < 3; ++w) EXPECT_DOUBLE_EQ(some.window_losses[w], all.window_losses[w]);
  EXPECT_EQ(evaluate(transformer, windows, {3, 3}, 1000, 2).tokens, 90);
  EXPECT_NE(evaluate(transformer, windows, {3, 4}, 0, 2).loss, all.loss);
}

// A quarter of a blend's tokens with 2 bytes each, three quarters with 4: 3.5 bytes a token.
TEST(Blend, IsTheMeanByShareOfTokens) {
  const std::vector<Evaluation> parts = {{.loss = 3, .tokens = 100, .bytes = 200},
                                         {.loss = 1, .tokens = 50, .bytes = 200}};
  EXPECT_EQ(blend_shares(parts, {1, 3}), (std::vector<double>{0.25, 0.75}));
  const Evaluation blend = blended(parts, {0.25, 0.75});
  EXPECT_DOUBLE_EQ(blend.loss, 1.5);
  EXPECT_DOUBLE_EQ(blend.bits_per_byte, 1.5 / std::log(2.0) / 3.5);
  EXPECT_EQ(blend.tokens, 150);
  EXPECT_EQ(blend.bytes, 400);
}

TEST(Blend, WithoutWeightsIsAsOneText) {
  const std::vector<Evaluation> parts = {{.loss = 3, .tokens = 100, .bytes = 200},
                                         {.loss = 1, .tokens = 50, .bytes = 200}};
  const Evaluation blend = blended(parts, blend_shares(parts, {0, 0}));
  EXPECT_DOUBLE_EQ(blend.loss, 350.0 / 150);
  EXPECT_DOUBLE_EQ(blend.bits_per_byte, 350 / std::log(2.0) / 400);
}

TEST(Blend, BytesAreUnknownWhereThoseOfAPartAre) {
  const Evaluation blend = blended({{.loss = 3, .tokens = 100, .bytes = 200}, {.loss = 1, .tokens = 50}}, {0.5, 0.5});
  EXPECT_TRUE(std::isnan(blend.bits_per_byte));
  EXPECT_EQ(blend.bytes, 0);
}

}  // namespace
}  // namespace mmoe
