#pragma once
// Programs run as children: SIGINT and SIGTERM are passed on to them, their standard output can be captured.

#include <string>
#include <vector>

namespace mmoe {

// How a child ended: its exit code, or the signal that killed it (0: none).
struct ChildResult {
  int exit_code = 0;
  int signal = 0;
  std::string output;  // what it wrote to standard output, where captured
};

enum class ChildOutput { kInherit, kCapture, kToStandardError };

// While one lives, SIGINT and SIGTERM do not end this program but go to the running child's process group.
class SignalForwarding {
 public:
  SignalForwarding();
  ~SignalForwarding();
  SignalForwarding(const SignalForwarding&) = delete;
  SignalForwarding& operator=(const SignalForwarding&) = delete;

  // The last SIGINT or SIGTERM that came; 0: none.
  int received() const;
};

// Runs `command` (a program's path and its arguments) to its end. A child whose parent dies gets SIGTERM.
// Throws ConfigError when the program is missing, std::system_error when no process can be started.
ChildResult run_child(const std::vector<std::string>& command, ChildOutput output);

// The folder of the running program, in which our other programs stand too.
std::string program_folder();

}  // namespace mmoe
