#include "train/loop/evaluation_log.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "tests/train/loop/tiny_model.h"
#include "train/loop/evaluate.h"

namespace mmoe {
namespace {

std::vector<nlohmann::json> lines(const TemporaryFolder& folder) {
  std::vector<nlohmann::json> found;
  std::ifstream file(folder.file("evaluations.jsonl"));
  for (std::string line; std::getline(file, line);) found.push_back(nlohmann::json::parse(line));
  return found;
}

TEST(EvaluationSettings, AreDueAtTheIntervalAndAtTheEnd) {
  EvaluationSettings settings;
  EXPECT_FALSE(settings.is_due(4, true)) << "without an interval never";
  settings.interval = 4;
  EXPECT_TRUE(settings.is_due(8, false));
  EXPECT_FALSE(settings.is_due(9, false));
  EXPECT_TRUE(settings.is_due(9, true));
}

TEST(StepEvaluator, GivesWhatEvaluateGives) {
  const TemporaryFolder folder;
  build_tiny_data(folder, folder.file("tokens"));
  const Job job = tiny_job();
  const DataBlend data({{folder.file("tokens")}});
  EvaluationSettings settings;
  settings.interval = 1;
  settings.ks = {1, 4};
  settings.split = Split::kTest;
  settings.tokens = 100;  // 7 windows of 16
  Transformer transformer(job, c10::kCPU, Gradients::kNone);
  const StepEvaluator evaluator(settings, job, data);
  const std::vector<StepEvaluation> found = evaluator.evaluate(3, transformer, no_groups().world);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].step, 3);
  EXPECT_EQ(found[0].data, "");
  EXPECT_EQ(found[0].tokens, 112);
  EXPECT_GT(found[0].seconds, 0);
  ASSERT_EQ(found[0].by_k.size(), 2U);
  const EvaluationWindows windows(data.dataset(0).tokens(Split::kTest), data.dataset(0).tokenizer(), 16);
  for (size_t i = 0; i < 2; ++i) {
    const Evaluation expected = evaluate(transformer, windows, std::vector<int>(3, settings.ks[i]), 7, 4096 / 16);
    EXPECT_EQ(found[0].by_k[i].k, settings.ks[i]);
    EXPECT_EQ(found[0].by_k[i].loss, expected.loss);
    EXPECT_EQ(found[0].by_k[i].bits_per_byte, expected.bits_per_byte);
  }
  EXPECT_NE(found[0].by_k[0].loss, found[0].by_k[1].loss);
  settings.tokens = 0;
  EXPECT_EQ(StepEvaluator(settings, job, data).evaluate(3, transformer, no_groups().world)[0].tokens,
            windows.num_targets());
}

TEST(StepEvaluator, EvaluatesEachDataSetOfABlend) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) build_tiny_data(folder, folder.file(name));
  const DataBlend data({{folder.file("a"), 0.5}, {folder.file("b"), 0.5}});
  EvaluationSettings settings;
  settings.ks = {2};
  const Job job = tiny_job();
  Transformer transformer(job, c10::kCPU, Gradients::kNone);
  const auto found = StepEvaluator(settings, job, data).evaluate(1, transformer, no_groups().world);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].data, folder.file("a"));
  EXPECT_EQ(found[1].data, folder.file("b"));
}

// Training goes on bit for bit, with the peaks that it has without.
TEST(StepEvaluator, ChangesNothingOfTheTraining) {
  const TemporaryFolder folder;
  build_tiny_data(folder, folder.file("tokens"));
  const Job job = tiny_job();
  const DataBlend data({{folder.file("tokens")}});
  const Batches batches(data.sources(Split::kTrain), sample_rules(job.training), job.training.seed);
  EvaluationSettings settings;
  settings.ks = {1, 6};
  settings.tokens = 200;
  const StepEvaluator evaluator(settings, job, data);
  const auto train = [&](bool evaluates) {
    Trainer trainer(job, c10::kCPU);
    std::vector<StepResult> results;
    for (int step = 1; step <= 4; ++step) {
      results.push_back(trainer.run_step(step, 4, batches));
      if (evaluates) evaluator.evaluate(step, trainer.transformer(), no_groups().world);
    }
    return std::pair(results, trainer.transformer().parameters().master().clone());
  };
  train(false);  // what the first run of a process allocates once and keeps
  const auto [plain, plain_weights] = train(false);
  const auto [evaluated, evaluated_weights] = train(true);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(evaluated[i].loss, plain[i].loss);
    EXPECT_EQ(evaluated[i].grad_norm, plain[i].grad_norm);
    // The weights of the plain run are alive in the evaluated one.
    EXPECT_EQ(evaluated[i].peak_allocated_bytes,
              plain[i].peak_allocated_bytes + static_cast<int64_t>(plain_weights.nbytes()));
  }
  EXPECT_TRUE(evaluated_weights.equal(plain_weights));
}

TEST(StepEvaluator, RefusesPipelines) {
  const TemporaryFolder folder;
  build_tiny_data(folder, folder.file("tokens"));
  const Job job = tiny_job(R"({"hardware": {"num_devices": 3}, "parallelism": {"pipeline": 3}})");
  const DataBlend data({{folder.file("tokens")}});
  try {
    const StepEvaluator evaluator({}, job, data);
    FAIL() << "not refused";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("parallelism.pipeline = 3"), std::string::npos) << error.what();
  }
}

TEST(EvaluationLog, WritesAndDropsTheLinesBehindTheCheckpoint) {
  const TemporaryFolder folder;
  StepEvaluation evaluation;
  evaluation.tokens = 64;
  evaluation.by_k = {{1, 1.0 / 3, 2}, {6, 0.25, std::numeric_limits<double>::quiet_NaN()}};
  {
    EvaluationLog log(folder.file(""), 0);
    for (const int64_t step : {2, 4, 6}) {
      evaluation.step = step;
      log.write(evaluation, Split::kValid);
    }
  }
  const std::vector<nlohmann::json> all = lines(folder);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].at("step"), 2);
  EXPECT_EQ(all[0].at("split"), "valid");
  EXPECT_EQ(all[0].at("tokens"), 64);
  EXPECT_FALSE(all[0].contains("data"));
  EXPECT_EQ(all[0].at("loss_by_k").at("1").get<double>(), 1.0 / 3);
  EXPECT_EQ(all[0].at("bits_per_byte_by_k").dump(), R"({"1":2.0,"6":null})");
  evaluation.step = 6;
  evaluation.data = "web";
  EvaluationLog(folder.file(""), 4).write(evaluation, Split::kTest);
  const std::vector<nlohmann::json> resumed = lines(folder);
  ASSERT_EQ(resumed.size(), 3U);
  EXPECT_EQ(resumed[1], all[1]);
  EXPECT_EQ(resumed[2].at("step"), 6);
  EXPECT_EQ(resumed[2].at("data"), "web");
}

}  // namespace
}  // namespace mmoe
