#include "sim/cli/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <system_error>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Shared with the signal handler.
volatile std::sig_atomic_t received_signal = 0;
volatile std::sig_atomic_t child_group = 0;

extern "C" void pass_on(int signal) {
  const int saved_errno = errno;
  received_signal = signal;
  if (child_group > 0) kill(-child_group, signal);
  errno = saved_errno;
}

void set_action(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// What the child does between fork and exec; only async-signal-safe calls.
[[noreturn]] void become(char* const* words, ChildOutput output, int write_end, pid_t parent, const sigset_t& mask) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // it died before the line above
  set_action(SIGINT, SIG_DFL);
  set_action(SIGTERM, SIG_DFL);
  set_action(SIGTTOU, SIG_IGN);  // its group is not the terminal's foreground one, and it shows progress there
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, STDIN_FILENO);
  if (output == ChildOutput::kCapture) dup2(write_end, STDOUT_FILENO);
  if (output == ChildOutput::kToStandardError) dup2(STDERR_FILENO, STDOUT_FILENO);
  execv(words[0], words);
  _exit(127);
}

std::string read_all(int descriptor) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t count = read(descriptor, buffer, sizeof buffer);
    if (count > 0) text.append(buffer, static_cast<std::size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) return text;
  }
}

}  // namespace

SignalForwarding::SignalForwarding() {
  received_signal = 0;
  set_action(SIGINT, pass_on);
  set_action(SIGTERM, pass_on);
}

SignalForwarding::~SignalForwarding() {
  set_action(SIGINT, SIG_DFL);
  set_action(SIGTERM, SIG_DFL);
}

int SignalForwarding::received() const { return received_signal; }

ChildResult run_child(const std::vector<std::string>& command, ChildOutput output) {
  MMOE_CHECK(!command.empty());
  if (access(command[0].c_str(), X_OK) != 0) {
    throw ConfigError(command[0] + ": no such program; build it first (make build)");
  }
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);

  int ends[2] = {-1, -1};
  if (output == ChildOutput::kCapture && pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe");
  // Signals wait until the child's group is known, so that none is lost between fork and then.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGINT);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) become(words.data(), output, ends[1], parent, before);
  if (child > 0) {
    setpgid(child, child);
    child_group = child;
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) throw_errno("cannot start " + command[0]);

  ChildResult result;
  if (output == ChildOutput::kCapture) {
    close(ends[1]);
    result.output = read_all(ends[0]);
    close(ends[0]);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  child_group = 0;
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  return result;
}

std::string program_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path(); }

}  // namespace mmoe
