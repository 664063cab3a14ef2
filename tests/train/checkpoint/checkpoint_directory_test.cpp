#include "train/checkpoint/checkpoint_directory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <limits>
#include <stdexcept>
#include <system_error>

#include "tests/train/checkpoint/checkpoint_testing.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

class CheckpointDirectory : public FolderTest {
 protected:
  // A whole checkpoint with one file "model" and `text` in its state.
  fs::path make(std::int64_t step, const std::string& text = "state") const {
    CheckpointWriter writer(checkpoint_folder(folder_, step));
    std::ofstream(writer.staging() / "model") << "weights of " << text;
    writer.commit({{"text", text}});
    return checkpoint_folder(folder_, step);
  }

  std::vector<std::string> names_in_checkpoints() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / "checkpoints")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  // Replaces state.json of a fresh checkpoint, then returns the error of reading it.
  std::string error_with_state(const std::string& text) const {
    const fs::path folder = make(1);
    std::ofstream(folder / "state.json", std::ios::trunc) << text;
    return config_error([&] { read_checkpoint_state(folder); });
  }
};

using Names = std::vector<std::string>;

TEST_F(CheckpointDirectory, StandsAtCommitOnly) {
  CheckpointWriter writer(checkpoint_folder(folder_, 20));
  EXPECT_EQ(writer.staging(), folder_ / "checkpoints" / ".step_20.tmp");
  EXPECT_EQ(staging_folder(folder_ / "checkpoints" / "step_20/"), writer.staging());
  fs::create_directory(writer.staging() / "shards");
  std::ofstream(writer.staging() / "model") << "12345";
  std::ofstream(writer.staging() / "shards" / "0") << "123";
  EXPECT_EQ(latest_checkpoint(folder_), std::nullopt);
  // A seed and a float that only survive when numbers are kept exactly.
  writer.commit({{"seed", std::numeric_limits<std::uint64_t>::max()}, {"loss", 0.1}, {"nested", {{"k", {1, 2}}}}});

  EXPECT_EQ(names_in_checkpoints(), Names{"step_20"});
  ASSERT_EQ(latest_checkpoint(folder_), checkpoint_folder(folder_, 20));
  const nlohmann::json state = read_checkpoint_state(*latest_checkpoint(folder_));
  EXPECT_EQ(state["seed"].get<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(state["loss"].get<double>(), 0.1);
  EXPECT_EQ(state["nested"]["k"][1], 2);
  EXPECT_EQ(state["files"], (nlohmann::json{{"model", 5}, {"shards/0", 3}}));
  EXPECT_THROW(writer.commit(nlohmann::json::object()), std::logic_error);
}

TEST_F(CheckpointDirectory, ListsByStepAsNumbers) {
  EXPECT_TRUE(list_checkpoints(folder_).empty());
  EXPECT_TRUE(list_checkpoints(folder_ / "none").empty());
  for (const std::int64_t step : {100, 9, 20}) make(step);
  const fs::path parent = folder_ / "checkpoints";
  for (const char* name : {"step_", "step_007", "step_-1", "step_+1", "step_1x", "step_99999999999999999999",
                           "Step_500", ".step_900.tmp", "other"}) {
    fs::create_directory(parent / name);
  }
  std::ofstream(parent / "step_800") << "a file";
  std::vector<std::int64_t> steps;
  for (const Checkpoint& checkpoint : list_checkpoints(folder_)) {
    steps.push_back(checkpoint.step);
    EXPECT_EQ(checkpoint.folder, checkpoint_folder(folder_, checkpoint.step));
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{9, 20, 100}));
  EXPECT_EQ(latest_checkpoint(folder_), checkpoint_folder(folder_, 100));
}

TEST_F(CheckpointDirectory, InterruptedWriteLeavesTheEarlierCheckpoint) {
  make(10, "first");
  {
    CheckpointWriter writer(checkpoint_folder(folder_, 10));
    std::ofstream(writer.staging() / "model") << "half";
  }  // as when an exception passes
  EXPECT_EQ(names_in_checkpoints(), Names{"step_10"});
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 10))["text"], "first");
}

// SIGKILL leaves no time for any destructor.
TEST_F(CheckpointDirectory, KilledWriterLeavesTheEarlierCheckpoint) {
  make(10, "first");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    CheckpointWriter again(checkpoint_folder(folder_, 10));
    CheckpointWriter next(checkpoint_folder(folder_, 20));
    std::ofstream(next.staging() / "model") << "half";
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(names_in_checkpoints(), (Names{".step_10.tmp", ".step_20.tmp", "step_10"}));
  EXPECT_EQ(latest_checkpoint(folder_), checkpoint_folder(folder_, 10));
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 10))["text"], "first");

  make(20, "second");  // what was left is no obstacle, and none of it enters the new one
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 20))["files"].size(), 1u);
  remove_unfinished_checkpoints(folder_);
  EXPECT_EQ(names_in_checkpoints(), (Names{"step_10", "step_20"}));
}

TEST_F(CheckpointDirectory, ReplacesACheckpointOfTheSameStep) {
  make(10, "first");
  std::ofstream(checkpoint_folder(folder_, 10) / "extra") << "goes with it";
  make(10, "second");
  EXPECT_EQ(names_in_checkpoints(), Names{"step_10"});
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 10))["text"], "second");
  EXPECT_FALSE(fs::exists(checkpoint_folder(folder_, 10) / "extra"));

  fs::remove(checkpoint_folder(folder_, 10) / "state.json");  // a damaged one of a run is replaced too
  make(10, "third");
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 10))["text"], "third");
}

// Killed between the two renames of a replacement: the earlier checkpoint comes back.
TEST_F(CheckpointDirectory, RecoversAHalfReplacedCheckpoint) {
  const fs::path folder = make(10, "first");
  const fs::path replaced = folder.parent_path() / ".step_10.old";
  fs::rename(folder, replaced);
  remove_unfinished_checkpoints(folder_);
  EXPECT_EQ(names_in_checkpoints(), Names{"step_10"});
  EXPECT_EQ(read_checkpoint_state(folder)["text"], "first");

  // Killed after both renames: the new one stays, the earlier one goes.
  fs::rename(folder, replaced);
  fs::create_directory(folder);
  std::ofstream(folder / "new") << "";
  remove_unfinished_checkpoints(folder_);
  EXPECT_EQ(names_in_checkpoints(), Names{"step_10"});
  EXPECT_TRUE(fs::exists(folder / "new"));

  remove_unfinished_checkpoints(folder_ / "none");  // a run that has not begun
}

TEST_F(CheckpointDirectory, NeverReplacesWhatIsNoCheckpoint) {
  fs::create_directory(folder_ / "home");
  std::ofstream(folder_ / "home" / "thesis") << "years";
  std::ofstream(folder_ / "file") << "text";
  const auto error = [&](const fs::path& path) { return config_error([&] { CheckpointWriter writer(path); }); };
  EXPECT_NE(error(folder_ / "home").find("exists and is not a checkpoint"), std::string::npos);
  EXPECT_NE(error(folder_ / "home/").find("exists and is not a checkpoint"), std::string::npos);
  std::ofstream(folder_ / "home" / "state.json") << "{\"of\": \"another program\"}";
  EXPECT_NE(error(folder_ / "home").find("exists and is not a checkpoint"), std::string::npos);
  EXPECT_NE(error(folder_ / "file").find("is not a folder"), std::string::npos);
  EXPECT_NE(error(folder_ / "file" / "x").find("cannot be created"), std::string::npos);
  for (const char* path : {"", ".", "..", "/"}) {
    EXPECT_NE(error(path).find("names no new folder"), std::string::npos) << path;
  }
  EXPECT_EQ(read_bytes(folder_ / "home" / "thesis"), "years");
  EXPECT_EQ(listing(), (Names{"file", "home"}));

  fs::create_directory(folder_ / "empty");
  CheckpointWriter(folder_ / "empty").commit({{"text", "imported"}});
  EXPECT_EQ(read_checkpoint_state(folder_ / "empty")["text"], "imported");
  CheckpointWriter(folder_ / "empty/").commit({{"text", "again"}});
  EXPECT_EQ(read_checkpoint_state(folder_ / "empty")["text"], "again");
}

TEST_F(CheckpointDirectory, ALinkedCheckpointIsReplacedAndItsTargetKept) {
  const fs::path folder = make(10, "first");
  fs::rename(folder, folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", folder);
  EXPECT_EQ(latest_checkpoint(folder_), folder);
  make(10, "second");
  EXPECT_EQ(read_checkpoint_state(folder)["text"], "second");
  EXPECT_EQ(read_checkpoint_state(folder_ / "elsewhere")["text"], "first");
}

TEST_F(CheckpointDirectory, RefusesFoldersThatAreNotWhole) {
  const auto error = [&](const fs::path& path) { return config_error([&] { read_checkpoint_state(path); }); };
  EXPECT_NE(error(folder_ / "none").find("none: is not a folder; name a checkpoint such as RUN/checkpoints/step_100"),
            std::string::npos);
  const fs::path folder = make(10);
  // The run's folder in place of its checkpoint is told which one to take.
  EXPECT_NE(error(folder_).find("name a checkpoint such as " + folder.string()), std::string::npos);

  fs::resize_file(folder / "model", 3);
  EXPECT_NE(error(folder).find("model: is truncated: holds 3 of 16 bytes; copy it again or use an earlier checkpoint"),
            std::string::npos);
  fs::resize_file(folder / "model", 17);
  EXPECT_NE(error(folder).find("model: has changed: holds 17 of 16 bytes"), std::string::npos);
  fs::remove(folder / "model");
  EXPECT_NE(error(folder).find("step_10: lacks its file \"model\"; copy it again or use an earlier checkpoint"),
            std::string::npos);
  fs::create_directory(folder / "model");
  EXPECT_NE(error(folder).find("model: is not a file"), std::string::npos);
  fs::remove(folder / "state.json");
  EXPECT_NE(error(folder).find("is not a checkpoint (it lacks state.json)"), std::string::npos);
}

TEST_F(CheckpointDirectory, RefusesDamagedStates) {
  struct Case {
    const char* text;
    const char* message;
  };
  for (const Case& c :
       std::initializer_list<Case>{{"", "state.json: "},
                                   {"{\"files\": {", "is not valid JSON"},
                                   {"{\"files\": {}, \"x\": 1e999}", "too large"},
                                   {"[]", "has no object \"files\""},
                                   {"{}", "has no object \"files\""},
                                   {"{\"files\": []}", "has no object \"files\""},
                                   {"{\"files\": {\"model\": -1}}", "files.\"model\" must be"},
                                   {"{\"files\": {\"model\": \"16\"}}", "files.\"model\" must be"},
                                   {"{\"files\": {\"../x\": 1}}", "files.\"../x\" must be a name inside"},
                                   {"{\"files\": {\"a/../x\": 1}}", "must be a name inside"},
                                   {"{\"files\": {\"/etc/passwd\": 1}}", "must be a name inside"},
                                   {"{\"files\": {\"a/\": 1}}", "must be a name inside"},
                                   {"{\"files\": {\"\": 1}}", "must be a name inside"},
                                   {"{\"files\": {\"a\\u0000b\": 1}}", "\"a\\x00b\""}}) {
    const std::string error = error_with_state(c.text);
    EXPECT_NE(error.find(c.message), std::string::npos) << c.text << ": " << error;
    EXPECT_NE(error.find("use an earlier checkpoint"), std::string::npos) << error;
  }
  EXPECT_NE(error_with_state(std::string(200'000, '[')).find("is not valid JSON"), std::string::npos);
}

TEST_F(CheckpointDirectory, CommitRefusesOurMistakes) {
  CheckpointWriter writer(checkpoint_folder(folder_, 1));
  EXPECT_THROW(writer.commit(nlohmann::json::array()), std::logic_error);
  EXPECT_THROW(writer.commit({{"files", 1}}), std::logic_error);
  fs::create_symlink("/etc/passwd", writer.staging() / "link");
  EXPECT_THROW(writer.commit(nlohmann::json::object()), std::logic_error);
  EXPECT_THROW(checkpoint_folder(folder_, -1), std::logic_error);
}

// A limit on the size of files stands for a full disk: state.json cannot be written.
TEST_F(CheckpointDirectory, FullDiskAtCommitLeavesTheEarlierCheckpoint) {
  make(10, "first");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(10);
    try {
      CheckpointWriter(checkpoint_folder(folder_, 10)).commit({{"text", std::string(10'000, 'x')}});
    } catch (const std::system_error& error) {
      ::_exit(std::string(error.what()).find("state.json") != std::string::npos ? 0 : 11);
    } catch (...) {
      ::_exit(12);
    }
    ::_exit(13);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(names_in_checkpoints(), Names{"step_10"});
  EXPECT_EQ(read_checkpoint_state(checkpoint_folder(folder_, 10))["text"], "first");
}

}  // namespace
}  // namespace mmoe
