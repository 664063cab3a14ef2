#include "train/loop/step_log.h"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "profiles/store/atomic_file.h"

namespace mmoe {

StepLog::StepLog(std::filesystem::path path, int64_t last_step) : path_(std::move(path)) {
  std::string kept;
  if (last_step > 0) {
    std::ifstream old(path_);
    for (std::string line; std::getline(old, line);) {
      const nlohmann::json entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (entry.is_discarded() || !entry.contains("step") || entry["step"].get<int64_t>() > last_step) break;
      kept += line + "\n";
    }
  }
  write_file_atomically(path_.string(), kept);
  file_.open(path_, std::ios::app);
}

void StepLog::write(const nlohmann::ordered_json& line) {
  errno = 0;
  file_ << line.dump() << '\n' << std::flush;
  if (!file_) throw std::system_error(errno, std::generic_category(), path_.string());
}

}  // namespace mmoe
