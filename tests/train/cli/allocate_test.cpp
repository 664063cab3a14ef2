#include <gtest/gtest.h>

#include <algorithm>

#include "sim/calibration/calibration.h"
#include "sim/cli/program.h"
#include "sim/formulas/model_flops.h"
#include "tests/train/loop/tiny_model.h"
#include "train/cli/commands.h"

namespace mmoe {
namespace {

using json = nlohmann::json;
using Words = std::vector<std::string>;

class AllocateCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    build_tiny_data(*folder_, folder_->file("data"));
    checkpoint_ = tiny_checkpoint(*folder_, tiny_job(), folder_->file("data"), 5);
    save_calibration(default_calibration(tiny_job().hardware.spec), folder_->file("calibration.json"));
  }
  static void TearDownTestSuite() { delete folder_; }

  Words words(Words more) const {
    Words all = {"--checkpoint",        checkpoint_, "--data",
                 folder_->file("data"), "--out",     folder_->file("allocation.json")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Runs with --json; what it prints must be what it writes.
  json run(Words more) const {
    more.push_back("--json");
    testing::internal::CaptureStdout();
    const ExitCode code = guarded([&] { return allocate_command(words(more)); });
    const std::string printed = testing::internal::GetCapturedStdout();
    EXPECT_EQ(code, ExitCode::kDone);
    if (code != ExitCode::kDone) return json::object();
    EXPECT_EQ(printed, folder_->read("allocation.json"));
    return json::parse(printed);
  }
  // The one line of a refusal, which must leave no file.
  std::string refusal(const Words& arguments) const {
    std::filesystem::remove(folder_->file("allocation.json"));
    testing::internal::CaptureStderr();
    const ExitCode code = guarded([&] { return allocate_command(arguments); });
    const std::string line = testing::internal::GetCapturedStderr();
    EXPECT_EQ(code, ExitCode::kBadInput) << line;
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    EXPECT_FALSE(std::filesystem::exists(folder_->file("allocation.json")));
    return line;
  }
  void expect_refused(const Words& more, const std::string& because) const {
    const std::string line = refusal(words(more));
    EXPECT_NE(line.find(because), std::string::npos) << line;
  }

  static TemporaryFolder* folder_;
  static std::string checkpoint_;
};
TemporaryFolder* AllocateCommand::folder_;
std::string AllocateCommand::checkpoint_;

TEST_F(AllocateCommand, WritesWhatItSays) {
  const json report = run({"--mean-k", "2.4", "--front"});
  const Job job = tiny_job();
  const auto k = report["k_per_layer"].get<std::vector<int>>();
  ASSERT_EQ(k.size(), 3u);
  EXPECT_LE(report["mean_k"].get<double>(), 2.4);
  EXPECT_DOUBLE_EQ(report["cost"]["allocation"], allocation_flops_per_token(job.model, 16, k).value);
  EXPECT_LE(report["cost"]["allocation"], report["cost"]["budget"]);
  EXPECT_DOUBLE_EQ(report["cost"]["fraction_of_k_max"],
                   report["cost"]["allocation"].get<double>() / report["cost"]["k_max"].get<double>());
  EXPECT_EQ(report["cost"]["kind"], "flops");
  EXPECT_DOUBLE_EQ(report["cost"]["uniform"], report["cost"]["allocation"]);
  EXPECT_NEAR(report["difference"], report["verified_loss"].get<double>() - report["uniform_loss"].get<double>(),
              1e-12);
  const double low = report["interval"][0], high = report["interval"][1];
  EXPECT_LE(low, report["difference"]);
  EXPECT_GE(high, report["difference"]);
  EXPECT_EQ(report["verdict"], high < 0 ? "better" : low > 0 ? "worse" : "as_good");
  EXPECT_GT(report["smallest_resolvable_difference"], 0);
  for (const char* key : {"predicted_loss", "native_loss", "search_loss", "base_loss"}) {
    EXPECT_GT(report[key], 0) << key;
    EXPECT_LT(report[key], 10) << key;  // ln 256 = 5.5 at random
  }
  ASSERT_EQ(report["sensitivities"].size(), 3u);
  double predicted = report["base_loss"];
  for (size_t l = 0; l < 3; ++l) {
    ASSERT_EQ(report["sensitivities"][l].size(), 4u);
    predicted += report["sensitivities"][l][k[l] - 1].get<double>();
  }
  EXPECT_NEAR(report["predicted_loss"], predicted, 1e-12);
  EXPECT_EQ(report["splits"], json({{"sensitivities", "search"}, {"verdict", "test"}}));
  EXPECT_GE(report["windows"]["blocks"], 8);

  const json& front = report["front"];
  ASSERT_GE(front.size(), 1u);
  for (size_t i = 1; i < front.size(); ++i) {
    EXPECT_GT(front[i]["cost"], front[i - 1]["cost"]);
    EXPECT_LT(front[i]["predicted_loss"], front[i - 1]["predicted_loss"]);
  }
}

TEST_F(AllocateCommand, BoundsPredictedSeconds) {
  const json report = run({"--mean-k", "2.5", "--cost", "seconds", "--calibration", folder_->file("calibration.json"),
                           "--max-sequences", "40"});
  EXPECT_EQ(report["cost"]["kind"], "seconds");
  EXPECT_LE(report["cost"]["allocation"].get<double>(), report["cost"]["budget"].get<double>() * (1 + 1e-9));
  EXPECT_LT(report["cost"]["fraction_of_k_max"], 1);
  EXPECT_DOUBLE_EQ(report["cost"]["allocation"], report["predicted_forward_seconds"]["allocation"]);
  EXPECT_EQ(report["windows"]["test"], 40);
  EXPECT_EQ(report["windows"]["search"], 40);
}

TEST_F(AllocateCommand, PrintsATableForPeople) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(allocate_command(words({"--mean-k", "1", "--max-sequences", "20", "--front"})), ExitCode::kDone);
  const std::string printed = testing::internal::GetCapturedStdout();
  for (const char* text : {"1 1 1", "native k = 4", "uniform is as good", "95 % interval", "Best predicted"}) {
    EXPECT_NE(printed.find(text), std::string::npos) << text << " in\n" << printed;
  }
}

TEST_F(AllocateCommand, RefusesContradictoryAndImpossibleFlags) {
  expect_refused({}, "exactly one of");
  expect_refused({"--mean-k", "2", "--cost-fraction", "0.9"}, "exactly one of");
  expect_refused({"--mean-k", "0.5"}, "least possible mean is 1");
  expect_refused({"--mean-k", "nan"}, "--mean-k");
  expect_refused({"--cost-fraction", "0.01"}, "least possible is 0.");
  expect_refused({"--cost-fraction", "1.5"}, "--cost-fraction 1.5");
  expect_refused({"--max-loss-increase", "-0.1"}, "0 or more");
  expect_refused({"--mean-k", "2", "--cost", "euros"}, "flops or seconds");
  expect_refused({"--mean-k", "2", "--cost", "seconds"}, "--calibration");
  expect_refused({"--mean-k", "2", "--k-max", "7"}, "model.num_experts = 6");
  expect_refused({"--mean-k", "2", "--k-min", "3", "--k-max", "2"}, "--k-min <= --k-max");
  expect_refused({"--mean-k", "2", "--max-sequences", "-1"}, "--max-sequences");
  expect_refused({"--mean-k", "2", "--max-sequences", "1"}, "data.test");
}

TEST_F(AllocateCommand, RefusesPlacesThatAreNotThere) {
  const std::string data = folder_->file("data"), out = folder_->file("allocation.json");
  const auto expect = [&](const Words& arguments, const std::string& because) {
    const std::string line = refusal(arguments);
    EXPECT_NE(line.find(because), std::string::npos) << line;
  };
  expect({"--checkpoint", folder_->file("none"), "--data", data, "--out", out, "--mean-k", "2"}, "none");
  expect({"--checkpoint", checkpoint_, "--data", folder_->file("none"), "--out", out, "--mean-k", "2"}, "none");
  expect({"--checkpoint", checkpoint_, "--data", data, "--out", folder_->file("no/a.json"), "--mean-k", "2"}, "--out");
}

}  // namespace
}  // namespace mmoe
