#include "train/checkpoint/checkpoint_directory.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "profiles/store/atomic_file.h"
#include "profiles/store/json_fields.h"
#include "sim/units/errors.h"
#include "train/checkpoint/durable_file.h"
#include "train/checkpoint/safetensors_header.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStateFile = "state.json";
constexpr const char* kCheckpointsFolder = "checkpoints";
constexpr const char* kFilesKey = "files";
constexpr std::string_view kStepPrefix = "step_";
constexpr std::string_view kStagingSuffix = ".tmp";
constexpr std::string_view kReplacedSuffix = ".old";
constexpr const char* kWhatToDo = "; copy it again or use an earlier checkpoint";

fs::path hidden_sibling(const fs::path& folder, std::string_view suffix) {
  return folder.parent_path() / ('.' + folder.filename().string() + std::string(suffix));
}

// Where commit() puts an earlier checkpoint of the same name for the moment between its two renames.
fs::path replaced_folder(const fs::path& folder) { return hidden_sibling(folder, kReplacedSuffix); }

// "a/b/" names the same folder as "a/b", and only the latter has a file name.
fs::path without_trailing_slash(fs::path folder) {
  return folder.has_filename() || !folder.has_relative_path() ? folder : folder.parent_path();
}

void rename_or_throw(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot rename " + from.string() + " to " + to.string());
  }
}

// N of "step_N" as we write it; nothing for any other name.
std::optional<std::int64_t> step_of(std::string_view name) {
  if (name.substr(0, kStepPrefix.size()) != kStepPrefix) return std::nullopt;
  const std::string_view digits = name.substr(kStepPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size() || std::to_string(step) != digits || step < 0) {
    return std::nullopt;
  }
  return step;
}

// Undoes or finishes what an interrupted commit() left: either name holds a whole checkpoint.
void recover_replaced(const fs::path& folder) {
  const fs::path replaced = replaced_folder(folder);
  if (!fs::exists(replaced)) return;
  if (fs::exists(folder)) {
    fs::remove_all(replaced);
  } else {
    rename_or_throw(replaced, folder);
  }
}

nlohmann::json parse_state(const fs::path& path) {
  nlohmann::json state;
  try {
    state = json_from_file(path.string());
  } catch (const ConfigError& error) {
    throw ConfigError(std::string(error.what()) + ", or use an earlier checkpoint");
  }
  const auto files = state.find(kFilesKey);
  if (!state.is_object() || files == state.end() || !files->is_object()) {
    throw ConfigError(path.string() + ": has no object \"files\" that lists the checkpoint's files" + kWhatToDo);
  }
  return state;
}

// RUN/checkpoints/step_N, which is ours to replace even when damaged.
bool is_in_a_run(const fs::path& folder) {
  return step_of(folder.filename().string()).has_value() && folder.parent_path().filename() == kCheckpointsFolder;
}

// Only checkpoints are ever replaced, never another folder of the user's.
void check_replaceable(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) {
    throw ConfigError(folder.string() + ": exists and is not a folder; name another place for the checkpoint");
  }
  if (is_in_a_run(folder) || fs::is_empty(folder)) return;
  try {
    parse_state(folder / kStateFile);
  } catch (const ConfigError&) {
    throw ConfigError(folder.string() + ": exists and is not a checkpoint, so it is not replaced; name another place");
  }
}

// A plain name, or names joined by '/', that stays inside its folder.
bool stays_inside(const fs::path& name) {
  return !name.empty() && name.is_relative() && name.has_filename() &&
         std::none_of(name.begin(), name.end(), [](const fs::path& part) { return part == ".." || part == "."; });
}

void check_files(const fs::path& folder, const nlohmann::json& state) {
  const std::string where = (folder / kStateFile).string() + ": ";
  for (const auto& [name, size] : state[kFilesKey].items()) {
    if (!size.is_number_unsigned() || !stays_inside(name)) {
      throw ConfigError(where + "files." + quote_for_message(name) +
                        " must be a name inside the folder with its number of bytes" + kWhatToDo);
    }
    const fs::path path = folder / name;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      throw ConfigError(folder.string() + ": lacks its file " + quote_for_message(name) + kWhatToDo);
    }
    const std::uintmax_t bytes = fs::is_regular_file(status) ? fs::file_size(path, error) : 0;
    if (error || !fs::is_regular_file(status)) {
      throw ConfigError(path.string() + ": is not a file that can be read" + kWhatToDo);
    }
    const auto expected = size.get<std::uintmax_t>();
    if (bytes != expected) {
      throw ConfigError(path.string() + ": " + (bytes < expected ? "is truncated: holds " : "has changed: holds ") +
                        std::to_string(bytes) + " of " + std::to_string(expected) + " bytes" + kWhatToDo);
    }
  }
}

}  // namespace

fs::path checkpoint_folder(const fs::path& run_folder, std::int64_t step) {
  MMOE_CHECK(step >= 0) << "step " << step;
  return run_folder / kCheckpointsFolder / (std::string(kStepPrefix) + std::to_string(step));
}

fs::path staging_folder(const fs::path& folder) {
  return hidden_sibling(without_trailing_slash(folder), kStagingSuffix);
}

CheckpointWriter::CheckpointWriter(fs::path folder)
    : folder_(without_trailing_slash(std::move(folder))), staging_(staging_folder(folder_)) {
  const std::string name = folder_.filename().string();
  if (name.empty() || name == "." || name == "..") {
    throw ConfigError(folder_.string() + ": names no new folder; name one such as RUN/checkpoints/step_100");
  }
  recover_replaced(folder_);
  check_replaceable(folder_);
  std::error_code error;
  fs::remove_all(staging_, error);
  if (error && fs::exists(staging_)) throw std::system_error(error, "cannot clear " + staging_.string());
  fs::create_directories(staging_, error);
  if (error == std::errc::permission_denied || error == std::errc::read_only_file_system ||
      error == std::errc::not_a_directory || error == std::errc::file_exists) {
    throw ConfigError(folder_.string() + ": cannot be created (" + error.message() +
                      "); name a place for the checkpoint that is writable");
  }
  if (error) throw std::system_error(error, "cannot create " + staging_.string());
}

CheckpointWriter::~CheckpointWriter() {
  std::error_code ignored;
  if (!is_committed_) fs::remove_all(staging_, ignored);
}

void CheckpointWriter::commit(nlohmann::json state) {
  MMOE_CHECK(!is_committed_ && state.is_object() && !state.contains(kFilesKey)) << "commit of " << folder_;
  nlohmann::json files = nlohmann::json::object();
  std::vector<fs::path> to_flush = {staging_};
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(staging_)) {
    to_flush.push_back(entry.path());
    if (entry.is_directory()) continue;
    MMOE_CHECK(entry.is_regular_file() && !entry.is_symlink()) << entry.path() << " in a checkpoint";
    files[entry.path().lexically_relative(staging_).generic_string()] = entry.file_size();
  }
  state[kFilesKey] = std::move(files);
  write_file_atomically((staging_ / kStateFile).string(), state.dump(2) + "\n");
  for (const fs::path& path : to_flush) sync_to_disk(path);

  check_replaceable(folder_);
  const fs::path replaced = replaced_folder(folder_);
  const bool replaces = fs::exists(folder_);
  if (replaces) rename_or_throw(folder_, replaced);
  try {
    rename_or_throw(staging_, folder_);
  } catch (...) {
    if (replaces) std::rename(replaced.c_str(), folder_.c_str());
    throw;
  }
  is_committed_ = true;
  sync_to_disk(parent_folder(folder_));
  sync_to_disk(parent_folder(parent_folder(folder_)));  // the constructor may have made the parent
  if (replaces) fs::remove_all(replaced);
}

std::vector<Checkpoint> list_checkpoints(const fs::path& run_folder) {
  std::vector<Checkpoint> checkpoints;
  const fs::path parent = run_folder / kCheckpointsFolder;
  if (!fs::is_directory(parent)) return checkpoints;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent)) {
    const std::optional<std::int64_t> step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) checkpoints.push_back({*step, entry.path()});
  }
  std::sort(checkpoints.begin(), checkpoints.end(),
            [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
  return checkpoints;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run_folder) {
  const std::vector<Checkpoint> checkpoints = list_checkpoints(run_folder);
  if (checkpoints.empty()) return std::nullopt;
  return checkpoints.back().folder;
}

nlohmann::json read_checkpoint_state(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / kStateFile, ignored)) {
    const char* why =
        fs::is_directory(folder, ignored) ? "is not a checkpoint (it lacks state.json)" : "is not a folder";
    const std::optional<fs::path> latest = latest_checkpoint(folder);
    throw ConfigError(folder.string() + ": " + why + "; name a checkpoint such as " +
                      (latest ? latest->string() : "RUN/checkpoints/step_100"));
  }
  nlohmann::json state = parse_state(folder / kStateFile);
  check_files(folder, state);
  return state;
}

void remove_unfinished_checkpoints(const fs::path& run_folder) {
  const fs::path parent = run_folder / kCheckpointsFolder;
  if (!fs::is_directory(parent)) return;
  std::vector<fs::path> unfinished, replaced;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent)) {
    const std::string name = entry.path().filename().string();
    for (const auto& [suffix, list] : {std::pair(kStagingSuffix, &unfinished), std::pair(kReplacedSuffix, &replaced)}) {
      if (name.size() <= suffix.size() + 1 || name.front() != '.' || !name.ends_with(suffix)) continue;
      const std::string step = name.substr(1, name.size() - 1 - suffix.size());
      if (step_of(step)) list->push_back(parent / step);
    }
  }
  for (const fs::path& folder : replaced) recover_replaced(folder);
  for (const fs::path& folder : unfinished) fs::remove_all(staging_folder(folder));
}

}  // namespace mmoe
