#pragma once
// Which rank of which world this process is, as torchrun, SLURM or our own --nproc say by environment variables.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace mmoe {

struct LaunchEnvironment {
  int64_t rank = 0, world_size = 1;
  int64_t local_rank = 0;        // on this node: which GPU
  int64_t local_world_size = 1;  // ranks on this node, where known
  std::string address;           // where rank 0 (or the launcher) serves the key-value store
  int64_t port = 0;
  bool launcher_serves = false;  // the store runs in the launcher, so no rank starts one
};

using EnvironmentVariable = std::function<const char*(const char* name)>;  // as std::getenv

// torchrun: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT. srun: SLURM_PROCID, SLURM_NTASKS,
// SLURM_LOCALID, with MASTER_ADDR and MASTER_PORT set by the user; only where SLURM started more than one task. Nothing
// where neither is set. Throws ConfigError naming the variable that is missing or no number in its range.
std::optional<LaunchEnvironment> launch_environment(const EnvironmentVariable& variable);

}  // namespace mmoe
