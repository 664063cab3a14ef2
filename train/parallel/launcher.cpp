#include "train/parallel/launcher.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "sim/units/errors.h"

extern char** environ;

namespace mmoe {
namespace {

constexpr const char* kLauncher = "MMOE_LAUNCHER_PID";
constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGUSR1};
constexpr size_t kMostRanks = 1024;  // of one machine

// Shared with the signal handler: the ranks that run (0: has ended).
volatile std::sig_atomic_t rank_processes[kMostRanks];

extern "C" void pass_on_to_ranks(int signal) {
  const int saved_errno = errno;
  for (const std::sig_atomic_t process : rank_processes) {
    if (process > 0) kill(process, signal);
  }
  errno = saved_errno;
}

class Forwarding {
 public:
  Forwarding() {
    for (size_t i = 0; i < std::size(kForwarded); ++i) {
      struct sigaction action = {};
      action.sa_handler = pass_on_to_ranks;
      sigaction(kForwarded[i], &action, &old_[i]);
    }
  }
  ~Forwarding() {
    for (size_t i = 0; i < std::size(kForwarded); ++i) sigaction(kForwarded[i], &old_[i], nullptr);
  }
  Forwarding(const Forwarding&) = delete;
  Forwarding& operator=(const Forwarding&) = delete;

 private:
  struct sigaction old_[std::size(kForwarded)];
};

std::vector<std::string> environment_of(int64_t rank, int64_t count, int port) {
  const std::pair<std::string, std::string> ours[] = {{"RANK", std::to_string(rank)},
                                                      {"LOCAL_RANK", std::to_string(rank)},
                                                      {"WORLD_SIZE", std::to_string(count)},
                                                      {"LOCAL_WORLD_SIZE", std::to_string(count)},
                                                      {"MASTER_ADDR", "127.0.0.1"},
                                                      {"MASTER_PORT", std::to_string(port)},
                                                      {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                                      {kLauncher, std::to_string(getpid())}};
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    bool replaced = false;
    for (const auto& [name, value] : ours) replaced |= text.starts_with(name + "=");
    if (!replaced) variables.push_back(text);
  }
  for (const auto& [name, value] : ours) variables.push_back(name + "=" + value);
  // Pages of stack from c10d about what we say in one line; the user's own choice comes first.
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) variables.emplace_back("TORCH_CPP_LOG_LEVEL=FATAL");
  return variables;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> found;
  for (const std::string& word : words) found.push_back(const_cast<char*>(word.c_str()));
  found.push_back(nullptr);
  return found;
}

// In a process group of its own, so that Ctrl-C reaches it through us alone.
pid_t start(const std::vector<std::string>& words, const std::vector<std::string>& variables) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int signal : kForwarded) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t process = 0;
  const int error = posix_spawn(&process, "/proc/self/exe", &actions, &attributes, pointers(words).data(),
                                pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw std::system_error(error, std::generic_category(), "a rank cannot be started");
  return process;
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status)) return "ended with exit code " + std::to_string(WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  return "was killed by signal " + std::to_string(signal) + " (" + strsignal(signal) +
         (signal == SIGKILL ? "; the system does this where memory runs out" : "") + ")";
}

void kill_all() {
  for (const std::sig_atomic_t process : rank_processes) {
    if (process > 0) kill(process, SIGKILL);
  }
}

// What has gone wrong so far.
struct Failures {
  bool only_bad_input = true;
  std::string first;  // of a rank that ended by itself, or was killed by someone else
  std::string hung;   // the first that had to be killed
};

}  // namespace

void launch_ranks(const std::vector<std::string>& arguments, int64_t count, std::chrono::milliseconds grace,
                  const std::string& what_to_do) {
  if (count > static_cast<int64_t>(kMostRanks)) {
    throw ConfigError("--nproc " + std::to_string(count) + " is more than " + std::to_string(kMostRanks) +
                      " processes of one machine; start the ranks with torchrun or srun");
  }
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  const auto store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);

  for (volatile std::sig_atomic_t& process : rank_processes) process = 0;
  const Forwarding forwarding;
  // Signals wait until all ranks are known, so that none is lost.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (const int signal : kForwarded) sigaddset(&blocked, signal);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  try {
    for (int64_t rank = 0; rank < count; ++rank) {
      rank_processes[rank] = start(arguments, environment_of(rank, count, store->getPort()));
    }
  } catch (...) {
    kill_all();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  Failures failures;
  std::optional<std::chrono::steady_clock::time_point> kill_at;
  bool killed = false;
  for (int64_t running = count; running > 0;) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended <= 0) {
      if (kill_at && !killed && std::chrono::steady_clock::now() > *kill_at) {
        killed = true;
        kill_all();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    int64_t rank = 0;
    while (rank < count && rank_processes[rank] != ended) ++rank;
    if (rank == count) continue;
    rank_processes[rank] = 0;
    --running;
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (well) continue;
    const std::string text = "rank " + std::to_string(rank) + " ";
    if (killed) {
      if (failures.hung.empty()) failures.hung = text + "did not answer and was killed";
    } else if (WIFSIGNALED(status) || failures.first.empty()) {  // a killed rank is why the others end
      failures.first = text + how_it_ended(status);
    }
    failures.only_bad_input = failures.only_bad_input && WIFEXITED(status) && WEXITSTATUS(status) == 2;
    if (!kill_at) kill_at = std::chrono::steady_clock::now() + grace;
  }
  if (!kill_at) return;
  const std::string text = (failures.hung.empty() ? failures.first : failures.hung) + what_to_do;
  if (failures.only_bad_input) throw ConfigError(text);
  throw RunFailure(text);
}

void end_with_launcher() {
  const char* const launcher = std::getenv(kLauncher);
  if (launcher == nullptr) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (std::to_string(getppid()) != launcher) kill(getpid(), SIGTERM);  // it died before the line above
}

}  // namespace mmoe
