#pragma once
// A folder of one test's own, removed with everything in it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>

namespace mmoe {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "mmoe_data_XXXXXX";
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp");
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return path_ / name; }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream(file(name), std::ios::binary) << bytes;
    return file(name);
  }
  std::string read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) found.insert(entry.path().filename());
    return found;
  }

 private:
  std::filesystem::path path_;
};

// The message of the Error that `action` throws; empty, with a test failure, when it throws none.
template <class Error, class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// A page of English-like text, the same each time: `lines` lines, blank lines after each `lines_per_document` of them.
inline std::string sample_text(int lines, int lines_per_document) {
  static constexpr std::string_view kWords[] = {"the",    "expert", "of",   "each",   "layer",   "reads",
                                                "a",      "token",  "and",  "routes", "it",      "again",
                                                "memory", "falls",  "with", "fewer",  "experts", "drawn"};
  std::string text;
  uint64_t state = 12345;
  for (int line = 0; line < lines; ++line) {
    text += "line " + std::to_string(line) + ":";
    for (int word = 0; word < 9; ++word) {
      state = state * 6364136223846793005 + 1442695040888963407;
      text += " ";
      text += kWords[(state >> 33) % std::size(kWords)];
    }
    text += (line + 1) % lines_per_document == 0 ? ".\n\n" : ".\n";
  }
  return text;
}

}  // namespace mmoe
