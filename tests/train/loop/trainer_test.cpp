#include "train/loop/trainer.h"

#include <limits>

#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

using Draws = std::vector<std::vector<int>>;

struct Samples {
  explicit Samples(const Job& job, uint64_t seed = 1)
      : tokens(random_tokens({job.training.global_batch_size, job.training.seq_len}, job.model.vocab_size, seed)),
        targets(random_tokens({job.training.global_batch_size, job.training.seq_len}, job.model.vocab_size, seed + 1)) {
  }
  at::Tensor tokens, targets;
};

// Without auxiliary losses, whose means are over a micro-batch, only the order of the sums differs.
TEST(GradientAccumulation, TwoMicroBatchesEqualOneOfTwiceTheSize) {
  const std::string common = R"("load_balance_coefficient": 0, "z_loss_coefficient": 0, "clip_norm": 0})";
  const Job split = small_job(R"({"training": {"micro_batch_size": 2, )" + common + "}");
  const Job whole = small_job(R"({"training": {"micro_batch_size": 4, )" + common + "}");
  const Samples samples(split);
  Trainer two(split, c10::kCPU), one(whole, c10::kCPU);
  const StepResult a = two.run_step(1, 10, samples.tokens, samples.targets, {{2, 5}, {2, 5}});
  const StepResult b = one.run_step(1, 10, samples.tokens, samples.targets, {{2, 5}});
  // Sums over 64 tokens in another order, through layers of sums of at most 96 terms.
  const double bound = tolerance(at::kDouble, 64 + 2 * 96, 0);
  EXPECT_NEAR(a.loss, b.loss, bound * b.loss);
  EXPECT_NEAR(a.grad_norm, b.grad_norm, bound * b.grad_norm);
  EXPECT_LE(relative_error(two.transformer().parameters().grad(), one.transformer().parameters().grad()), bound);
  EXPECT_EQ(a.learning_rate, b.learning_rate);
  EXPECT_EQ(a.k_per_layer, (std::vector<std::vector<double>>{{2, 5}, {2, 5}}));
}

// Each micro-batch runs at its own k: the step's loss and gradient are the means over them.
TEST(GradientAccumulation, MicroBatchesKeepTheirOwnK) {
  const Job job = small_job(R"({"training": {"clip_norm": 0}})");
  const Samples samples(job);
  Trainer trainer(job, c10::kCPU);
  const StepResult step = trainer.run_step(1, 10, samples.tokens, samples.targets, {{1, 6}, {4, 2}});
  Transformer fresh(job, c10::kCPU, Gradients::kAllocated);
  double loss = 0;
  for (int64_t j = 0; j < 2; ++j) {
    const std::vector<int> k = j == 0 ? std::vector<int>{1, 6} : std::vector<int>{4, 2};
    const TrainingForward forward =
        fresh.training_forward({.tokens_T = samples.tokens.narrow(0, 2 * j, 2).reshape({-1}),
                                .targets_T = samples.targets.narrow(0, 2 * j, 2).reshape({-1}),
                                .k_per_layer = k,
                                .loss_scale = 1.0 / static_cast<double>(samples.tokens.numel()),
                                .auxiliary_scale = 0.5});
    torch::autograd::backward({forward.loss}, {});
    loss += forward.loss.item<double>();
  }
  EXPECT_DOUBLE_EQ(step.loss, loss);
  EXPECT_TRUE(same_bits(trainer.transformer().parameters().grad(), fresh.parameters().grad()));
  EXPECT_GT(step.load_balance_loss, 0.9);
  EXPECT_GT(step.z_loss, 0);
}

TEST(Training, TheSameStepsGiveTheSameBits) {
  const Job job = small_job(R"({"training": {"precision": "fp32"}})");
  const Samples samples(job);
  Trainer a(job, c10::kCPU), b(job, c10::kCPU);
  for (int64_t step = 1; step <= 3; ++step) {
    const StepResult first = a.run_step(step, 3, samples.tokens, samples.targets, a.draw(step));
    const StepResult second = b.run_step(step, 3, samples.tokens, samples.targets, b.draw(step));
    EXPECT_EQ(first.loss, second.loss);
    EXPECT_EQ(first.grad_norm, second.grad_norm);
  }
  EXPECT_TRUE(same_bits(a.transformer().parameters().master(), b.transformer().parameters().master()));
}

// Sixty-four tokens learnt by heart: from log(96) = 4.56 nats down below a tenth of it.
TEST(Training, LearnsABatchByHeart) {
  for (const char* precision : {"fp32", "bf16"}) {
    const Job job =
        small_job(std::string(R"({"training": {"precision": ")") + precision + R"(", "learning_rate": 1e-2}})");
    const Samples samples(job);
    Trainer trainer(job, c10::kCPU);
    double first = 0, last = 0;
    for (int64_t step = 1; step <= 80; ++step) {
      last = trainer.run_step(step, 80, samples.tokens, samples.targets, {{3, 3}, {3, 3}}).loss;
      if (step == 1) first = last;
    }
    EXPECT_NEAR(first, std::log(96.0), 0.7) << precision;
    EXPECT_LT(last, 0.1 * first) << precision;
  }
}

TEST(Draw, IsTheSamplers) {
  for (const char* elastic :
       {R"({"granularity": "layer"})", R"({"granularity": "micro_batch"})", R"({"granularity": "global_batch"})",
        R"({"sampling": "capacity_weighted"})", R"({"budget": {"kind": "exact", "sum_k": 7}})",
        R"({"budget": {"kind": "at_most", "sum_k": 5}})"}) {
    const Job job = small_job(std::string(R"({"elastic": )") + elastic + "}");
    const Trainer trainer(job, c10::kCPU);
    const KSampler sampler(job.elastic, 2);
    for (int64_t step = 1; step <= 20; ++step) {
      const Draws drawn = trainer.draw(step);
      ASSERT_EQ(drawn.size(), 2U);
      for (int64_t j = 0; j < 2; ++j) EXPECT_EQ(drawn[j], sampler.draw(job.training.seed, step, j)) << elastic;
    }
  }
}

TEST(Draw, TopPReportsTheMeanOverTokens) {
  const Job job = small_job(R"({"elastic": {"sampling": "top_p", "top_p": 0.3}})");
  Trainer trainer(job, c10::kCPU);
  EXPECT_EQ(trainer.draw(1), (Draws{{6, 6}, {6, 6}}));
  const Samples samples(job);
  const StepResult result = trainer.run_step(1, 1, samples.tokens, samples.targets, trainer.draw(1));
  for (const std::vector<double>& micro_batch : result.k_per_layer) {
    for (const double k : micro_batch) {
      EXPECT_GE(k, 1);
      EXPECT_LT(k, 6);
      EXPECT_EQ(k * 32, std::floor(k * 32));  // a mean over 32 tokens
    }
  }
}

// Against the plain model's router logits, micro-batch by micro-batch; a dense layer in front shifts the numbers.
TEST(RoutingMetrics, ArePlainlyRecomputed) {
  const Job job = small_job(R"({"model": {"num_dense_layers": 1, "dense_hidden_size": 40, "num_layers": 3}})");
  const Samples samples(job);
  Trainer trainer(job, c10::kCPU);
  trainer.measure_routing(true);
  std::map<std::string, at::Tensor> weights;
  for (const Parameter& parameter : trainer.transformer().parameters().all()) {
    weights[parameter.name] = parameter.master.clone();
  }
  const Draws k = {{1, 6}, {4, 1}};
  const StepResult step = trainer.run_step(1, 10, samples.tokens, samples.targets, k);
  ASSERT_EQ(step.routing.size(), 2U);
  for (int64_t l = 0; l < 2; ++l) {
    at::Tensor counts_E = at::zeros({8}, at::TensorOptions().dtype(at::kDouble));
    double entropy = 0;
    for (int64_t j = 0; j < 2; ++j) {
      const plain::ModelResult exact =
          plain::transformer(job, weights, samples.tokens.narrow(0, 2 * j, 2).reshape({-1}),
                             samples.targets.narrow(0, 2 * j, 2).reshape({-1}), k[j]);
      counts_E += exact.counts_E[l].detach();
      entropy += exact.entropy[l].item<double>() / 2;
    }
    const RoutingMetrics& found = step.routing[l];
    EXPECT_EQ(found.layer, l + 1);
    EXPECT_EQ(found.k, l == 0 ? 2.5 : 3.5);
    ASSERT_EQ(found.tokens_per_expert.size(), 8U);
    for (int64_t e = 0; e < 8; ++e) EXPECT_EQ(found.tokens_per_expert[e], counts_E[e].item<double>()) << l << " " << e;
    EXPECT_GT(entropy, 0.5);
    EXPECT_LT(entropy, std::log(8.0));
    // As for the whole model (transformer_test.cpp), of three layers, forward only.
    EXPECT_NEAR(found.entropy, entropy, tolerance(at::kDouble, 3 * 10 * 64, 3 * 30) * entropy);
  }
}

TEST(RoutingMetrics, ChangeNoBitOfTheTraining) {
  for (const char* training : {R"("recompute": "none")", R"("recompute": "full")"}) {
    const Job job = small_job(std::string(R"({"training": {"precision": "fp32", )") + training + "}}");
    const Samples samples(job);
    Trainer measured(job, c10::kCPU), plain(job, c10::kCPU);
    for (int64_t step = 1; step <= 3; ++step) {
      measured.measure_routing(step != 2);
      const StepResult a = measured.run_step(step, 3, samples.tokens, samples.targets, measured.draw(step));
      const StepResult b = plain.run_step(step, 3, samples.tokens, samples.targets, plain.draw(step));
      EXPECT_EQ(a.loss, b.loss);
      EXPECT_EQ(a.grad_norm, b.grad_norm);
      EXPECT_EQ(a.load_balance_loss, b.load_balance_loss);
      EXPECT_EQ(a.routing.size(), step != 2 ? 2U : 0U);
      EXPECT_TRUE(b.routing.empty());
    }
    EXPECT_TRUE(same_bits(measured.transformer().parameters().master(), plain.transformer().parameters().master()));
  }
}

std::string message_of_step(Trainer& trainer, const Samples& samples, int64_t step) {
  try {
    trainer.run_step(step, 10, samples.tokens, samples.targets, {{2, 2}, {2, 2}});
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(BrokenTraining, ANaNLossStopsTheStepAndLeavesTheWeights) {
  const Job job = small_job();
  Trainer trainer(job, c10::kCPU);
  at::Tensor(trainer.transformer().parameters().at("final_norm").master)[3].fill_(
      std::numeric_limits<double>::quiet_NaN());
  const at::Tensor before = trainer.transformer().parameters().master().clone();
  const std::string message = message_of_step(trainer, Samples(job), 3);
  EXPECT_NE(message.find("the loss became NaN in step 3"), std::string::npos) << message;
  EXPECT_NE(message.find("training.learning_rate"), std::string::npos) << message;
  EXPECT_TRUE(trainer.transformer().parameters().master().allclose(before, 0, 0, /*equal_nan=*/true));
}

// Logits of about 1e38 are finite in fp32 and so are the losses, but not the squared norm of the gradient.
TEST(BrokenTraining, AnInfiniteGradientNormStopsTheStep) {
  const Job job = small_job(R"({"training": {"precision": "fp32"}})");
  Trainer trainer(job, c10::kCPU);
  at::Tensor(trainer.transformer().parameters().at("output").master).mul_(1e30);
  const std::string message = message_of_step(trainer, Samples(job), 2);
  EXPECT_NE(message.find("the gradient norm became infinite in step 2"), std::string::npos) << message;
}

}  // namespace
}  // namespace mmoe
