#pragma once
// A file of one JSON line a step.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace mmoe {

class StepLog {
 public:
  // Opens the file for appending after dropping the lines of steps ("step") beyond `last_step` (0: all lines) and a
  // last one that was cut short.
  StepLog(std::filesystem::path path, int64_t last_step);

  // Appends and flushes a line. Throws std::system_error on a full disk.
  void write(const nlohmann::ordered_json& line);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mmoe
