#include "sim/cli/child_process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

ChildResult shell(const std::string& script, ChildOutput output = ChildOutput::kCapture) {
  return run_child({"/bin/sh", "-c", script}, output);
}

TEST(ChildProcess, CapturesOutputAndExitCode) {
  const ChildResult result = shell("printf 'a b'; exit 3");
  EXPECT_EQ(result.output, "a b");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.signal, 0);
}

TEST(ChildProcess, CapturesMoreThanAPipeHolds) {
  EXPECT_EQ(shell("head -c 3000000 /dev/zero").output.size(), 3000000u);
}

TEST(ChildProcess, PassesArgumentsAsTheyAre) {
  EXPECT_EQ(run_child({"/bin/echo", "a  b", "$HOME", "*"}, ChildOutput::kCapture).output, "a  b $HOME *\n");
}

TEST(ChildProcess, NamesTheSignalThatKilledIt) { EXPECT_EQ(shell("kill -9 $$").signal, SIGKILL); }

TEST(ChildProcess, AMissingProgramIsTheUsersMistake) {
  EXPECT_THROW(run_child({"/nowhere/mmoe"}, ChildOutput::kInherit), ConfigError);
}

TEST(ChildProcess, StandardOutputCanGoToStandardError) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(shell("echo out", ChildOutput::kToStandardError).output, "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "out\n");
}

TEST(ChildProcess, PassesSignalsOn) {
  const SignalForwarding signals;
  EXPECT_EQ(signals.received(), 0);
  const pid_t self = getpid();
  const ChildResult result =
      shell("trap 'echo caught; exit 0' TERM; kill -TERM " + std::to_string(self) + "; while :; do sleep 0.01; done");
  EXPECT_EQ(result.output, "caught\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(signals.received(), SIGTERM);
}

TEST(ChildProcess, SignalsEndTheProgramAgainAfterForwarding) {
  { const SignalForwarding signals; }
  struct sigaction action;
  sigaction(SIGTERM, nullptr, &action);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(ChildProcess, ProgramFolderHoldsThisProgram) {
  EXPECT_EQ(program_folder(), std::filesystem::read_symlink("/proc/self/exe").parent_path());
}

}  // namespace
}  // namespace mmoe
