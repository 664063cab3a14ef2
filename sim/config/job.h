#pragma once
// The job file: model, hardware, parallelism, training, elastic (and, for `mmoe loop`, data and loop).

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"
#include "sim/config/parallelism_config.h"
#include "sim/config/training_config.h"

namespace mmoe {

// What `mmoe loop` turns into token files. Paths are absolute after loading.
struct DataConfig {
  std::vector<std::string> text;
  std::string tokenizer = "sentencepiece";
  int64_t vocab_size = 0;  // 0: model.vocab_size
  std::vector<double> split = {0.9, 0.04, 0.03, 0.03};
};

// How far `mmoe loop` goes: steps of the run follow from training.tokens.
struct LoopConfig {
  double allocation_mean_k = 0;  // compute budget of the allocation; 0: the mean of k_min and k_max
  int64_t eval_sequences = 64;   // sequences an evaluation uses; 0: the whole split
};

// Overrides: dotted key and value text, as from `--parallelism.tensor 4`.
using Overrides = std::vector<std::pair<std::string, std::string>>;

struct Job {
  ModelConfig model;
  HardwareConfig hardware;
  ParallelismConfig parallelism;
  TrainingConfig training;
  ElasticConfig elastic;  // jobs without `elastic` get fixed k = model.top_k
  DataConfig data;
  LoopConfig loop;

  std::string where;            // file the job came from, for messages
  std::set<std::string> given;  // dotted keys that the file or a flag set to a value ("parallelism.tensor"), not "auto"
  Overrides overrides;          // flags that were set over the file

  int64_t data_parallel_size() const { return parallelism.data(hardware); }
  int64_t num_micro_batches() const { return training.num_micro_batches(data_parallel_size()); }
};

// Whether the layout must be a possible one, or is left to a search.
enum class Layout { kFixed, kOpen };

// Throws ConfigError for layouts and batches that do not go together.
void check_layout(const Job& job);

// Reads, completes and checks a job. Paths in it are relative to the file. Throws ConfigError.
Job load_job(const std::string& path, const Overrides& overrides = {}, Layout layout = Layout::kFixed);

// The same from JSON in memory; `where` names it in messages, `folder` resolves its relative paths.
Job parse_job(const nlohmann::json& json, const std::string& where, const std::string& folder,
              const Overrides& overrides = {}, Layout layout = Layout::kFixed);

// The resolved job as a job file: every key written, "model" inline, paths absolute. parse_job reads it back to an
// equal job.
nlohmann::json to_json(const Job& job);

// Every dotted key a job may hold, in file order; each is also a flag.
const std::vector<std::string>& job_keys();

}  // namespace mmoe
