#include "train/parallel/launch_environment.h"

#include <charconv>
#include <cstring>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

int64_t number(const EnvironmentVariable& variable, const char* name, int64_t least, int64_t most) {
  const char* const text = variable(name);
  if (text == nullptr || *text == '\0') {
    throw ConfigError(std::string("environment variable ") + name +
                      " is not set; start ranks with torchrun --no-python, srun or mmoe train --nproc, which set it");
  }
  int64_t value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < least || value > most) {
    throw ConfigError(std::string("environment variable ") + name + " = \"" + text + "\" is no whole number from " +
                      std::to_string(least) + " to " + std::to_string(most) + "; correct the launch command");
  }
  return value;
}

bool is_set(const EnvironmentVariable& variable, const char* name) {
  const char* const text = variable(name);
  return text != nullptr && *text != '\0';
}

}  // namespace

std::optional<LaunchEnvironment> launch_environment(const EnvironmentVariable& variable) {
  constexpr int64_t kMostRanks = 1 << 24;
  const bool torchrun = is_set(variable, "RANK") || is_set(variable, "WORLD_SIZE");
  const bool slurm = !torchrun && is_set(variable, "SLURM_PROCID") && is_set(variable, "SLURM_NTASKS") &&
                     number(variable, "SLURM_NTASKS", 1, kMostRanks) > 1;
  if (!torchrun && !slurm) return std::nullopt;
  LaunchEnvironment launch;
  launch.world_size = number(variable, torchrun ? "WORLD_SIZE" : "SLURM_NTASKS", 1, kMostRanks);
  launch.rank = number(variable, torchrun ? "RANK" : "SLURM_PROCID", 0, launch.world_size - 1);
  const char* const local = torchrun ? "LOCAL_RANK" : "SLURM_LOCALID";
  launch.local_rank = is_set(variable, local) ? number(variable, local, 0, kMostRanks) : launch.rank;
  if (torchrun && is_set(variable, "LOCAL_WORLD_SIZE")) {
    launch.local_world_size = number(variable, "LOCAL_WORLD_SIZE", 1, kMostRanks);
  }
  if (launch.world_size == 1) return launch;
  if (!is_set(variable, "MASTER_ADDR")) {
    throw ConfigError("environment variable MASTER_ADDR is not set; set it to the name of the host of rank 0" +
                      std::string(slurm ? " (scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)" : ""));
  }
  launch.address = variable("MASTER_ADDR");
  launch.port = number(variable, "MASTER_PORT", 1, 65535);
  const char* const agent = variable("TORCHELASTIC_USE_AGENT_STORE");
  launch.launcher_serves = agent != nullptr && std::strcmp(agent, "True") == 0;
  return launch;
}

}  // namespace mmoe
