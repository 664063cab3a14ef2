#include "sim/cli/loop_state.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class LoopStateTest : public testing::Test {
 protected:
  void SetUp() override {
    run_ = testing::TempDir() + "loop_state_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(run_);
  }
  void TearDown() override { fs::remove_all(run_); }

  std::string error(const json& job, const std::string& data = "") {
    try {
      LoopState(run_, job, data);
    } catch (const ConfigError& failure) {
      return failure.what();
    }
    return "";
  }

  std::string run_;
  const json job_ = {{"model", {{"num_layers", 4}}}, {"elastic", {{"k_max", 6}}}};
};

TEST_F(LoopStateTest, BeginsWithNothingDoneAndTheJobWritten) {
  const LoopState state(run_, job_, "");
  EXPECT_FALSE(state.is_done("train"));
  EXPECT_EQ(json::parse(std::ifstream(run_ + "/job.json")), job_);
}

TEST_F(LoopStateTest, RemembersCompleteStages) {
  LoopState(run_, job_, "").complete("train", 2.5);
  const LoopState again(run_, job_, "");
  EXPECT_TRUE(again.is_done("train"));
  EXPECT_FALSE(again.is_done("profile"));
  EXPECT_EQ(again.seconds().at("train"), 2.5);
}

TEST_F(LoopStateTest, RefusesAnotherJobAndNamesTheKey) {
  LoopState(run_, job_, "");
  json other = job_;
  other["elastic"]["k_max"] = 4;
  EXPECT_NE(error(other).find("elastic.k_max is 6 there and 4 here"), std::string::npos) << error(other);
  EXPECT_NE(error(other).find("use another --out"), std::string::npos);
  EXPECT_EQ(json::parse(std::ifstream(run_ + "/job.json")), job_);
}

TEST_F(LoopStateTest, RefusesOtherTokenFiles) {
  LoopState(run_, job_, "a/tokens");
  EXPECT_NE(error(job_, "b/tokens").find("token files differ"), std::string::npos);
  EXPECT_EQ(error(job_, "a/tokens"), "");
}

TEST_F(LoopStateTest, RefusesARunThatTheLoopDidNotStart) {
  fs::create_directories(run_ + "/checkpoints");
  EXPECT_NE(error(job_).find("did not start"), std::string::npos);
}

TEST_F(LoopStateTest, ADamagedStateIsOneLine) {
  LoopState(run_, job_, "");
  std::ofstream(run_ + "/loop_state.json") << "{";
  EXPECT_NE(error(job_).find("is no JSON file"), std::string::npos);
}

TEST_F(LoopStateTest, AnImpossibleFolderIsTheUsersMistake) {
  std::ofstream(run_) << "a file";
  EXPECT_NE(error(job_).find("cannot make this folder"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
