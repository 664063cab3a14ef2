#pragma once
// A checkpoint is a folder that is whole or absent: RUN/checkpoints/step_N, written as RUN/checkpoints/.step_N.tmp.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace mmoe {

struct Checkpoint {
  std::int64_t step = 0;
  std::filesystem::path folder;
};

// RUN/checkpoints/step_N.
std::filesystem::path checkpoint_folder(const std::filesystem::path& run_folder, std::int64_t step);

// Where the checkpoint `folder` is written until it is whole: PARENT/.NAME.tmp. Every rank writes there, one rank
// commits.
std::filesystem::path staging_folder(const std::filesystem::path& folder);

// A checkpoint being written, by one process of the job:
//   CheckpointWriter writer(checkpoint_folder(run, step));
//   write_safetensors(writer.staging() / "model.safetensors", ...);
//   writer.commit(state);
// Without commit() the destructor removes what was written; an earlier checkpoint in the same place stays whole till
// then.
class CheckpointWriter {
 public:
  // Makes the empty staging folder, clearing what an interrupted writer left. Throws ConfigError when `folder` exists
  // and is no checkpoint (nothing of the user's is ever replaced) or cannot be made, std::system_error on other
  // failures.
  explicit CheckpointWriter(std::filesystem::path folder);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();

  const std::filesystem::path& staging() const { return staging_; }

  // Writes state.json: `state` (an object; NaN and infinity would become null) and, under "files", the bytes of every
  // file that the checkpoint holds. Then flushes all to disk and renames. Throws std::system_error naming the path.
  void commit(nlohmann::json state);

 private:
  std::filesystem::path folder_;
  std::filesystem::path staging_;
  bool is_committed_ = false;
};

// The whole checkpoints of a run by rising step; none when the run has none. Contents are not looked at.
std::vector<Checkpoint> list_checkpoints(const std::filesystem::path& run_folder);

// The checkpoint of the highest step.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& run_folder);

// state.json of a checkpoint in which every file that it lists lies with its full size. Throws ConfigError (one line:
// what is wrong with which file, what to do) for any other folder.
nlohmann::json read_checkpoint_state(const std::filesystem::path& folder);

// Clears what interrupted writers left in a run; call it before training, while nothing else writes there.
void remove_unfinished_checkpoints(const std::filesystem::path& run_folder);

}  // namespace mmoe
