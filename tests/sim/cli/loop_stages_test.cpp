// The order of the stages, resuming and failing, with a stand-in for the program `mmoe` that a shell script plays.

#include "sim/cli/loop_stages.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Writes what each command would and appends its words to $base.log; a file $base.COMMAND makes that command run it.
constexpr const char* kProgram = R"sh(#!/bin/sh
base=${0%/*}/base
echo "$*" >> "$base.log"
command=$1
for word in "$@"; do
  case $previous in --out) out=$word ;; --steps) steps=$word ;; --run) run=$word ;; esac
  previous=$word
done
if [ -e "$base.$command" ]; then . "$base.$command"; fi
case $command in
  data) echo '{"unigram_entropy_bits_per_byte": 3.0, "splits": {"train": {"tokens": 100, "bytes": 300}}}' > "$out.json" ;;
  simulate) echo '{"memory": {"peak_allocated_bytes": 110}, "throughput": {"step_seconds": 2.2},
                   "elastic": {"peak_allocated_bytes": {"p50": 99}}}' ;;
  train)
    mkdir -p "$out/checkpoints/step_9" "$out/checkpoints/step_$steps"
    i=1; : > "$out/metrics.jsonl"
    while [ $i -le $steps ]; do
      echo "{\"step\": $i, \"tokens\": $i, \"loss\": 3.5, \"seconds\": 2.0, \"peak_allocated_bytes\": 100}" >> "$out/metrics.jsonl"
      i=$((i + 1))
    done ;;
  eval) echo '{"split": "valid", "tokens": 9, "loss_by_k": {"1": 3.0, "2": 2.5}, "bits_per_byte_by_k": {"1": 1.4, "2": 1.2}}' ;;
  allocate) echo '{"k_per_layer": [1, 2], "predicted_loss": 2.7, "verified_loss": 2.72, "uniform_loss": 2.73, "interval": [-0.02, 0.01]}' > "$out" ;;
  budget) echo '{"saving_fraction": {"p99": 0.07}}' ;;
  report) echo page > "$run/report.html" ;;
  *) echo '{}' > "$out" ;;
esac
)sh";

class LoopStagesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "loop_stages_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    settings_.program = folder_ + "/mmoe";
    write("mmoe", kProgram);
    chmod(settings_.program.c_str(), 0755);
    write("text.txt", "words");
    job_ = {{"model",
             {{"hidden_size", 16},
              {"num_layers", 2},
              {"num_heads", 2},
              {"vocab_size", 300},
              {"num_experts", 4},
              {"expert_hidden_size", 8}}},
            {"hardware", {{"device", "cpu"}}},
            {"training", {{"seq_len", 8}, {"global_batch_size", 2}, {"precision", "fp32"}, {"tokens", 176}}},
            {"elastic", {{"k_min", 1}, {"k_max", 2}, {"budget", {{"kind", "at_most"}, {"sum_k", 3}}}}},
            {"data", {{"text", {"text.txt"}}, {"vocab_size", 300}}}};
    settings_.run = folder_ + "/run";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  ExitCode loop() {
    settings_.job = parse_job(job_, "job.json", folder_);
    messages_.str("");
    return run_loop(settings_, messages_);
  }
  // The commands that ran since the last call, without their flags unless asked for.
  std::vector<std::string> ran(bool whole = false) {
    std::vector<std::string> commands;
    std::ifstream log(folder_ + "/base.log");
    for (std::string line; std::getline(log, line);) commands.push_back(whole ? line : line.substr(0, line.find(' ')));
    fs::remove(folder_ + "/base.log");
    return commands;
  }
  json summary() { return json::parse(std::ifstream(settings_.run + "/loop.json")); }

  std::string folder_;
  json job_;
  LoopSettings settings_;
  std::ostringstream messages_;
};

using Commands = std::vector<std::string>;

TEST_F(LoopStagesTest, RunsEveryStageInOrder) {
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  EXPECT_EQ(ran(), (Commands{"data", "simulate", "train", "profile", "calibrate", "simulate", "eval", "allocate",
                             "budget", "report"}));
  for (const char* file :
       {"job.json", "plan.json", "metrics.jsonl", "profile.json", "calibration.json", "plan_calibrated.json",
        "eval.json", "allocation.json", "budget.json", "loop.json", "report.html", "data/tokens.json"}) {
    EXPECT_TRUE(fs::exists(settings_.run + "/" + file)) << file;
  }
  EXPECT_DOUBLE_EQ(summary()["peak_allocated_bytes"]["error_fraction_before"].get<double>(), 110.0 / 100 - 1);
  EXPECT_EQ(summary()["allocation"]["k_per_layer"], json({1, 2}));
}

TEST_F(LoopStagesTest, GivesEachCommandItsFlags) {
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  const std::string run = settings_.run;
  const Commands words = ran(true);
  EXPECT_EQ(words[0], "data build --text " + folder_ +
                          "/text.txt --tokenizer sentencepiece --split 0.9,0.04,0.03,0.03 --out " + run +
                          "/data/tokens --vocab-size 300");
  EXPECT_EQ(words[1], "simulate --job " + run + "/job.json --json");
  // 176 tokens are 11 whole steps of 2 x 8.
  EXPECT_EQ(words[2], "train --job " + run + "/job.json --data " + run + "/data/tokens --out " + run + " --steps 11");
  EXPECT_EQ(words[5], "simulate --job " + run + "/job.json --calibration " + run + "/calibration.json --json");
  // step_11 is newer than step_9, though "9" sorts after "11".
  EXPECT_EQ(words[6], "eval --checkpoint " + run + "/checkpoints/step_11 --data " + run +
                          "/data/tokens --split valid --k 1,2 --max-sequences 64 --json");
  EXPECT_NE(words[7].find("--mean-k 1.5 --max-sequences 64 --out " + run + "/allocation.json"), std::string::npos)
      << words[7];
}

TEST_F(LoopStagesTest, LinksOfSeveralDevicesAreFittedToWhatTrainingMeasured) {
  job_["hardware"]["num_devices"] = 2;
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  const std::string run = settings_.run;
  const Commands words = ran(true);
  EXPECT_EQ(words[2],
            "train --job " + run + "/job.json --data " + run + "/data/tokens --out " + run + " --steps 11 --nproc 2");
  EXPECT_EQ(words[4], "calibrate --profile " + run + "/profile.json " + run + "/profile_collectives.json --out " + run +
                          "/calibration.json");
}

TEST_F(LoopStagesTest, ReadyTokenFilesAreNotBuilt) {
  fs::create_directories(folder_ + "/ready");
  write("ready/tokens.json", R"({"unigram_entropy_bits_per_byte": 3, "splits": {"train": {"tokens": 1, "bytes": 4}}})");
  settings_.data = folder_ + "/ready/tokens";
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  const Commands words = ran(true);
  EXPECT_EQ(words[0].substr(0, 8), "simulate");
  EXPECT_NE(words[1].find("--data " + settings_.data), std::string::npos);
}

TEST_F(LoopStagesTest, NoBudgetNoBudgetStage) {
  job_["elastic"].erase("budget");
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  for (const std::string& command : ran()) EXPECT_NE(command, "budget");
  EXPECT_FALSE(summary().contains("budget"));
}

TEST_F(LoopStagesTest, AFinishedLoopRunsNothingAgain) {
  ASSERT_EQ(loop(), ExitCode::kDone);
  ran();
  ASSERT_EQ(loop(), ExitCode::kDone);
  EXPECT_EQ(ran(), Commands{});
  EXPECT_NE(messages_.str().find("done before"), std::string::npos);
}

TEST_F(LoopStagesTest, KeepsTheExitCodeAndGoesOnWhereItStopped) {
  write("base.profile", "exit 2");
  EXPECT_EQ(loop(), ExitCode::kBadInput);
  EXPECT_EQ(ran(), (Commands{"data", "simulate", "train", "profile"}));
  fs::remove(folder_ + "/base.profile");
  EXPECT_EQ(loop(), ExitCode::kDone);
  EXPECT_EQ(ran(), (Commands{"profile", "calibrate", "simulate", "eval", "allocate", "budget", "report"}));
}

TEST_F(LoopStagesTest, WhatStandsOnALostFileRunsAgain) {
  ASSERT_EQ(loop(), ExitCode::kDone);
  ran();
  fs::remove(settings_.run + "/calibration.json");
  ASSERT_EQ(loop(), ExitCode::kDone);
  EXPECT_EQ(ran(), (Commands{"calibrate", "simulate", "eval", "allocate", "budget", "report"}));
}

TEST_F(LoopStagesTest, TrainingGoesOnFromItsCheckpoint) {
  write("base.train", "mkdir -p \"$out/checkpoints/step_3\"; echo '{\"step\": 3}' > \"$out/metrics.jsonl\"; exit 0");
  EXPECT_EQ(loop(), ExitCode::kOurFault);  // it ended well, but before its last step
  EXPECT_NE(messages_.str().find("training stopped after step 3 of 11"), std::string::npos) << messages_.str();
  ran();
  fs::remove(folder_ + "/base.train");
  ASSERT_EQ(loop(), ExitCode::kDone) << messages_.str();
  const Commands words = ran(true);
  EXPECT_EQ(words[0].substr(words[0].size() - 8), "--resume");
}

TEST_F(LoopStagesTest, AnInterruptStopsAfterTheStageThatItHit) {
  write("base.train", "trap 'exit 0' INT; kill -INT " + std::to_string(getpid()) + "; while :; do sleep 0.01; done");
  EXPECT_EQ(static_cast<int>(loop()), 128 + SIGINT);
  EXPECT_EQ(ran(), (Commands{"data", "simulate", "train"}));
  EXPECT_NE(messages_.str().find("interrupted; run the same command again"), std::string::npos);
  fs::remove(folder_ + "/base.train");
  EXPECT_EQ(loop(), ExitCode::kDone);
  EXPECT_EQ(ran().front(), "train");
}

TEST_F(LoopStagesTest, AKilledStageSaysSo) {
  write("base.profile", "kill -9 $$");
  EXPECT_EQ(loop(), ExitCode::kOurFault);
  EXPECT_NE(messages_.str().find("profile was killed by signal 9 (out of memory?)"), std::string::npos)
      << messages_.str();
}

TEST_F(LoopStagesTest, AJobThatDoesNotFitStopsBeforeTraining) {
  write("base.simulate", "echo '{}'; exit 3");
  EXPECT_EQ(loop(), ExitCode::kAnswerIsNo);
  EXPECT_EQ(ran(), (Commands{"data", "simulate"}));
}

TEST_F(LoopStagesTest, AJobAtRiskIsTried) {
  write(
      "base.simulate",
      R"(echo '{"fit": {"verdict": "at_risk"}, "memory": {"peak_allocated_bytes": 110}, "throughput": {"step_seconds": 2},
                  "elastic": {"peak_allocated_bytes": {"p50": 99}}}'; exit 3)");
  EXPECT_EQ(loop(), ExitCode::kDone) << messages_.str();
}

TEST_F(LoopStagesTest, ABudgetThatIsNotNeededDoesNotStopTheLoop) {
  write("base.budget", "echo '{\"saving_fraction\": {}}'; exit 3");
  EXPECT_EQ(loop(), ExitCode::kDone) << messages_.str();
}

TEST_F(LoopStagesTest, AnotherJobIsRefused) {
  ASSERT_EQ(loop(), ExitCode::kDone);
  job_["training"]["tokens"] = 320;
  EXPECT_THROW(loop(), ConfigError);
}

TEST_F(LoopStagesTest, JobsThatTheLoopCannotDoAreTheUsersMistake) {
  const auto message = [&] {
    try {
      loop();
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const json good = job_;
  job_["training"].erase("tokens");
  EXPECT_NE(message().find("job.json: training.tokens = 0"), std::string::npos) << message();
  job_ = good;
  job_.erase("data");
  EXPECT_NE(message().find("data.text is not given"), std::string::npos) << message();
  EXPECT_EQ(ran(), Commands{});
}

}  // namespace
}  // namespace mmoe
