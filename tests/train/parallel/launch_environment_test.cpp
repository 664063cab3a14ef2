#include "train/parallel/launch_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

using Variables = std::map<std::string, std::string>;

std::optional<LaunchEnvironment> launched(const Variables& variables) {
  return launch_environment([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string error_of(const Variables& variables) {
  try {
    launched(variables);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

const Variables kTorchrun = {{"RANK", "3"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "host"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};

TEST(LaunchEnvironment, IsNothingWhereNobodyLaunched) { EXPECT_FALSE(launched({}).has_value()); }

TEST(LaunchEnvironment, ReadsTorchrun) {
  const auto launch = launched(kTorchrun);
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->world_size, 8);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->local_world_size, 4);
  EXPECT_EQ(launch->address, "host");
  EXPECT_EQ(launch->port, 29500);
  EXPECT_TRUE(launch->launcher_serves);
}

TEST(LaunchEnvironment, ReadsSlurmTasks) {
  Variables slurm = {{"SLURM_PROCID", "2"},
                     {"SLURM_NTASKS", "4"},
                     {"SLURM_LOCALID", "0"},
                     {"MASTER_ADDR", "node1"},
                     {"MASTER_PORT", "1234"}};
  const auto launch = launched(slurm);
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(launch->rank, 2);
  EXPECT_EQ(launch->local_rank, 0);
  EXPECT_FALSE(launch->launcher_serves);
  slurm["SLURM_NTASKS"] = "1";  // a job of one task is an ordinary process
  EXPECT_FALSE(launched(slurm).has_value());
}

TEST(LaunchEnvironment, NamesTheVariableThatIsWrong) {
  const auto changed = [](const char* name, const char* value) {
    Variables variables = kTorchrun;
    variables[name] = value;
    return error_of(variables);
  };
  EXPECT_NE(changed("RANK", "8").find("RANK = \"8\" is no whole number from 0 to 7"), std::string::npos);
  EXPECT_NE(changed("RANK", "two").find("RANK"), std::string::npos);
  EXPECT_NE(changed("WORLD_SIZE", "").find("WORLD_SIZE is not set"), std::string::npos);
  EXPECT_NE(changed("MASTER_ADDR", "").find("MASTER_ADDR is not set"), std::string::npos);
  EXPECT_NE(changed("MASTER_PORT", "70000").find("MASTER_PORT"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
