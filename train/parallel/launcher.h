#pragma once
// `--nproc N`: the ranks of a job as processes of this machine.

#include <chrono>
#include <string>
#include <vector>

namespace mmoe {

// Starts `count` copies of this program with the same arguments and the environment that torchrun would give them
// (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; the key-value store runs in this process), and waits for
// all. SIGINT, SIGTERM and SIGUSR1 go on to every rank. Once one rank has failed the others have `grace` to end by
// themselves before they are killed. Ranks get SIGTERM when this process dies.
//
// Returns once all have ended well. Throws ConfigError where every failed rank says bad input (each has printed why),
// RunFailure naming rank and cause otherwise. `what_to_do` ends that line.
void launch_ranks(const std::vector<std::string>& arguments, int64_t count, std::chrono::milliseconds grace,
                  const std::string& what_to_do);

// For a rank: SIGTERM should its launcher die. Nothing in processes that no launcher started.
void end_with_launcher();

}  // namespace mmoe
