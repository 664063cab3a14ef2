#pragma once
// How far `mmoe loop` has come in a run folder: RUN/loop_state.json, rewritten after every stage.

#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace mmoe {

// The stages that are complete, with their seconds, for one resolved job and one set of token files.
class LoopState {
 public:
  // Opens the run folder, or starts it: makes the folder and writes RUN/job.json. `data` is the token files' prefix,
  // empty when the loop builds them. Throws ConfigError when RUN holds the run of another job or of another command.
  LoopState(const std::string& run, const nlohmann::json& job, const std::string& data);

  bool is_done(const std::string& stage) const { return seconds_.count(stage) > 0; }
  // Seconds that each completed stage took.
  const std::map<std::string, double>& seconds() const { return seconds_; }
  // Records the stage as complete.
  void complete(const std::string& stage, double seconds);

 private:
  void save() const;

  std::string path_;
  nlohmann::json job_;
  std::string data_;
  std::map<std::string, double> seconds_;
};

}  // namespace mmoe
