#include <gtest/gtest.h>

#include <filesystem>

#include "sim/cli/commands.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

TEST(Report, AMissingRunFolderIsTheUsersMistake) {
  try {
    report_command({"--run", "/nowhere/run"});
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()),
              "--run /nowhere/run: no such folder; give the --out of mmoe train or mmoe loop");
  }
}

TEST(Report, AFolderWithoutARunIsBadInput) {
  // The page's own program says so; its exit code is kept.
  const std::string empty = testing::TempDir() + "report_of_nothing";
  std::filesystem::create_directories(empty);
  testing::internal::CaptureStderr();
  const ExitCode code = report_command({"--run", empty});
  const std::string errors = testing::internal::GetCapturedStderr();
  if (errors.find("no matplotlib") != std::string::npos) GTEST_SKIP() << "needs matplotlib";
  EXPECT_EQ(code, ExitCode::kBadInput);
  EXPECT_NE(errors.find("give a run folder"), std::string::npos) << errors;
  std::filesystem::remove_all(empty);
}

}  // namespace
}  // namespace mmoe
