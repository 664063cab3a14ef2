#include "train/loop/inference_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include "tests/train/checkpoint/checkpoint_testing.h"
#include "tests/train/loop/tiny_model.h"

namespace mmoe {
namespace {

class InferenceModelTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    trainer_ = std::make_unique<Trainer>(tiny_job(), c10::kCPU);
    checkpoint_ =
        save_checkpoint(folder_, trainer_->job(), 0, trainer_->transformer().parameters(), trainer_->optimizer(), {});
  }

  // Logits of the model that was saved, in a sequence that `filler` ends.
  at::Tensor logits_of(const std::vector<int32_t>& tokens, const std::vector<int>& k, int filler = 0) {
    const c10::NoGradGuard no_grad;
    at::Tensor tokens_T = at::full({trainer_->job().training.seq_len}, filler, at::kInt);
    std::copy(tokens.begin(), tokens.end(), tokens_T.data_ptr<int32_t>());
    return trainer_->transformer().logits(tokens_T, k).narrow(0, 0, static_cast<int64_t>(tokens.size()));
  }

  std::unique_ptr<Trainer> trainer_;
  std::filesystem::path checkpoint_;
  const std::vector<int32_t> prompt_ = {72, 101, 108, 108, 111};
};

TEST_F(InferenceModelTest, HasTheLogitsOfTheModelThatWasSaved) {
  InferenceModel model(checkpoint_);
  for (const std::vector<int>& k : {std::vector<int>{1, 1, 1}, {4, 2, 6}}) {
    const at::Tensor logits = model.logits(prompt_, k);
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({5, 256}));
    EXPECT_TRUE(logits.equal(logits_of(prompt_, k)));
    // What comes behind changes roundings only: those of sums of 16 terms, in three layers four products, attention
    // over 16 tokens and some 30 more, and the head (Higham 2002, section 3.1), on both sides.
    const at::Tensor other = logits_of(prompt_, k, 9);
    EXPECT_LE((logits - other).norm().item<double>(),
              2 * 0x1p-24 * (3 * (4 * 16 + 16 + 30) + 16) * other.norm().item<double>());
  }
  EXPECT_FALSE(model.logits(prompt_, {1, 1, 1}).equal(model.logits(prompt_, {6, 6, 6})));
}

TEST_F(InferenceModelTest, GeneratesTheMostLikelyTokensAndHandsEachOn) {
  InferenceModel model(checkpoint_);
  GenerationOptions options;
  options.max_tokens = 11;
  options.sampling.temperature = 0;
  options.vocab_size = 200;
  const std::vector<int> k = {1, 3, 2};
  std::vector<int32_t> handed;
  const std::vector<int32_t> made =
      model.generate(prompt_, k, options, [&](int32_t token) { handed.push_back(token); });
  EXPECT_EQ(handed, made);
  ASSERT_EQ(made.size(), 11u);
  std::vector<int32_t> tokens = prompt_;
  for (const int32_t token : made) {
    // Without the cache; equal but for rounding, and no two of 200 random logits lie as near.
    EXPECT_EQ(token, logits_of(tokens, k)[-1].narrow(0, 0, 200).argmax().item<int64_t>());
    tokens.push_back(token);
  }
}

TEST_F(InferenceModelTest, DrawsRepeatAndFollowTheSeed) {
  InferenceModel model(checkpoint_);
  GenerationOptions options;
  options.max_tokens = 20;
  const std::vector<int32_t> first = model.generate(prompt_, {2, 2, 2}, options);
  EXPECT_EQ(model.generate(prompt_, {2, 2, 2}, options), first);
  options.sampling.seed = 1;
  EXPECT_NE(model.generate(prompt_, {2, 2, 2}, options), first);
}

TEST_F(InferenceModelTest, RefusesWhatTheModelDoesNotHave) {
  InferenceModel model(checkpoint_);
  EXPECT_NE(config_error([&] { model.logits(prompt_, {1, 1}); }).find("2 values of k for 3"), std::string::npos);
  EXPECT_NE(config_error([&] { model.logits(prompt_, {1, 7, 1}); }).find("k = 7"), std::string::npos);
  EXPECT_NE(config_error([&] { model.generate({256}, {1, 1, 1}); }).find("token 256"), std::string::npos);
  EXPECT_NE(config_error([&] { model.generate({}, {1, 1, 1}); }).find("no token"), std::string::npos);
  EXPECT_NE(config_error([&] { model.logits({}, {1, 1, 1}); }).find("no token"), std::string::npos);
  const std::vector<int32_t> long_text(17, 65);
  EXPECT_NE(config_error([&] { model.logits(long_text, {1, 1, 1}); }).find("seq_len = 16"), std::string::npos);
  EXPECT_EQ(InferenceModel(checkpoint_, 20).logits(long_text, {1, 1, 1}).size(0), 17);
}

}  // namespace
}  // namespace mmoe
