#include "sim/cli/loop_state.h"

#include <filesystem>
#include <fstream>

#include "profiles/store/atomic_file.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

json read(const std::string& path) {
  std::ifstream file(path);
  const json content = json::parse(file, nullptr, false);
  if (content.is_discarded()) {
    throw ConfigError(path + ": is no JSON file; remove the run folder or use another --out");
  }
  return content;
}

// "elastic.k_max is 6 there and 4 here": the first key in which two jobs differ.
std::string first_difference(const json& there, const json& here) {
  for (const json& change : json::diff(there, here)) {
    const json::json_pointer pointer(change["path"].get<std::string>());
    std::string key = pointer.to_string().substr(1);
    for (char& letter : key) letter = letter == '/' ? '.' : letter;
    const auto value = [&](const json& job) { return job.contains(pointer) ? job[pointer].dump() : "not given"; };
    return key + " is " + value(there) + " there and " + value(here) + " here";
  }
  return "the token files differ";
}

}  // namespace

LoopState::LoopState(const std::string& run, const json& job, const std::string& data)
    : path_(run + "/loop_state.json"), job_(job), data_(data) {
  const std::string job_path = run + "/job.json";
  std::error_code error;
  fs::create_directories(run, error);
  if (error) throw ConfigError("--out " + run + ": cannot make this folder (" + error.message() + "); choose another");
  if (!fs::exists(path_)) {
    for (const char* name : {"metrics.jsonl", "checkpoints"}) {
      if (fs::exists(run + "/" + name)) {
        throw ConfigError("--out " + run + ": holds a run that `mmoe loop` did not start; use another --out");
      }
    }
    write_file_atomically(job_path, job.dump(2) + "\n");
    save();
    return;
  }
  const json state = read(path_);
  for (const char* key : {"job", "data", "stages"}) {
    if (!state.contains(key)) throw ConfigError(path_ + ": key " + key + " is missing; use another --out");
  }
  if (state["job"] != job_ || state["data"] != data_) {
    throw ConfigError("--out " + run + ": holds the run of another job (" + first_difference(state["job"], job_) +
                      "); use another --out");
  }
  for (const auto& [stage, record] : state.at("stages").items()) seconds_[stage] = record.at("seconds").get<double>();
}

void LoopState::complete(const std::string& stage, double seconds) {
  seconds_[stage] = seconds;
  save();
}

void LoopState::save() const {
  json state = {{"schema_version", 1}, {"job", job_}, {"data", data_}, {"stages", json::object()}};
  for (const auto& [stage, seconds] : seconds_) state["stages"][stage]["seconds"] = seconds;
  write_file_atomically(path_, state.dump(2) + "\n");
}

}  // namespace mmoe
