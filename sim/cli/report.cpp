// mmoe report: one self-contained HTML page with plots from a run folder. The page is made by analysis/report.py.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

// The environment that setup.sh named in build/env.sh; empty when the program stands elsewhere.
std::string environment_of_build() {
  std::ifstream file(fs::path(program_folder()) / "../env.sh");
  const std::string head = "export VENV='";
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(head, 0) == 0 && line.back() == '\'') return line.substr(head.size(), line.size() - head.size() - 1);
  }
  return "";
}

// VENV's Python if that is set, else that of the build's environment, else the first python3 of PATH.
std::string python() {
  const char* named = std::getenv("VENV");
  const std::string venv = named != nullptr && *named != '\0' ? named : environment_of_build();
  if (!venv.empty()) return venv + "/bin/python3";
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path candidate = fs::path(folder) / "python3";
    std::error_code error;
    if (!folder.empty() && fs::is_regular_file(candidate, error)) return candidate;
  }
  throw ConfigError(
      "report: no python3 in PATH; install Python 3.10 or newer with matplotlib, or set VENV to an environment that "
      "has it");
}

// analysis/report.py of the source tree that the program stands in (build/bin/), else of the one it was built from.
std::string report_script() {
  const fs::path beside = fs::path(program_folder()) / "../../analysis/report.py";
  for (const fs::path& script : {beside.lexically_normal(), fs::path(MMOE_SOURCE_DIR) / "analysis/report.py"}) {
    if (fs::exists(script)) return script;
  }
  throw ConfigError(
      "report: analysis/report.py was not found beside the program; keep build/bin/ inside the source tree");
}

}  // namespace

ExitCode report_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "report";
  command.purpose = "one self-contained HTML page with plots from a run folder";
  command.example = "mmoe report --run build/demo --out report.html";
  command.options.add_options()("run", po::value<std::string>()->required()->value_name("FOLDER"),
                                "run folder of mmoe train or mmoe loop")(
      "out", po::value<std::string>()->value_name("FILE"), "page to write (default: FOLDER/report.html)");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  const std::string run = flags.get("run");
  if (!fs::is_directory(run))
    throw ConfigError("--run " + run + ": no such folder; give the --out of mmoe train or mmoe loop");

  std::vector<std::string> words = {python(), report_script(), "--run", run};
  if (flags.has("out")) words.insert(words.end(), {"--out", flags.get("out")});
  if (flags.json()) words.push_back("--json");
  const SignalForwarding signals;
  const ChildResult child = run_child(words, ChildOutput::kInherit);
  if (signals.received() != 0) return static_cast<ExitCode>(128 + signals.received());
  return static_cast<ExitCode>(child.exit_code);
}

}  // namespace mmoe
