#include "sim/config/job.h"

#include <filesystem>

#include "profiles/presets/embedded.h"
#include "sim/config/overrides.h"
#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

void check(const Job& job) {
  job.model.validate(job.where);
  job.hardware.validate(job.where);
}

}  // namespace

void check_layout(const Job& job) {
  job.parallelism.validate(job.model, job.hardware, job.where);
  job.training.validate(job.model, job.hardware, job.parallelism, job.where);
}

std::string resolve_path(const std::string& path, const std::string& folder) {
  if (path.empty()) return path;
  return fs::absolute(fs::path(folder.empty() ? "." : folder) / path).lexically_normal().string();
}

Job load_job(const std::string& path, const Overrides& overrides, Layout layout) {
  std::error_code error;
  if (path.find('/') == std::string::npos && !fs::exists(path, error)) {
    if (const auto text = embedded_file("presets/jobs/" + path + ".json")) {
      return parse_job(parse_json(*text, path), path, ".", overrides, layout);
    }
    if (!path.ends_with(".json")) {
      throw ConfigError(path + " is neither a file nor a ready job; ready jobs are " +
                        join(embedded_names("presets/jobs")) + " (mmoe presets)");
    }
  }
  return parse_job(read_json_file(path), path, fs::path(path).parent_path().string(), overrides, layout);
}

Job parse_job(const nlohmann::json& json, const std::string& where, const std::string& folder,
              const Overrides& overrides, Layout layout) {
  nlohmann::json edited = json;
  apply_overrides(edited, overrides);
  std::set<std::string> given;
  JsonReader root(edited, where, "", &given);
  for (const char* section : {"note", "model", "hardware", "parallelism", "training", "elastic", "data", "loop"}) {
    root.find(section);
  }
  root.finish();

  Job job;
  job.where = where;
  job.model = read_model(root, folder);
  root.require("hardware", "give at least {\"device\": \"cpu\"}");
  job.hardware = read_hardware(root, folder);
  job.parallelism = read_parallelism(root);
  root.require("training", "give at least {\"seq_len\": 4096}");
  job.training = read_training(root, folder);
  check(job);
  if (layout == Layout::kFixed) job.parallelism.validate(job.model, job.hardware, where);
  if (job.training.global_batch_size == 0) {
    job.training.global_batch_size = job.training.micro_batch_size * std::max<int64_t>(1, job.data_parallel_size());
  }
  if (layout == Layout::kFixed) job.training.validate(job.model, job.hardware, job.parallelism, where);
  job.elastic = read_elastic(root, job.model, job.parallelism);
  job.elastic.validate(job.model, where);
  if (job.elastic.budget) check_window(*job.elastic.budget, job);
  job.data = read_data(root, folder);
  job.loop = read_loop(root);
  if (job.loop.allocation_mean_k > job.elastic.k_max) {
    throw ConfigError(about(where, "loop.allocation_mean_k", job.loop.allocation_mean_k) +
                      "is above elastic.k_max = " + std::to_string(job.elastic.k_max) + "; lower it or leave it out");
  }
  job.given = std::move(given);
  job.overrides = overrides;
  return job;
}

nlohmann::json to_json(const Job& job) {
  nlohmann::json json{
      {"model", to_json(job.model)},
      {"hardware", to_json(job.hardware)},
      {"parallelism", to_json(job.parallelism)},
      {"training", to_json(job.training)},
      {"data",
       {{"text", job.data.text},
        {"tokenizer", job.data.tokenizer},
        {"vocab_size", job.data.vocab_size},
        {"split", job.data.split}}},
      {"loop", {{"allocation_mean_k", job.loop.allocation_mean_k}, {"eval_sequences", job.loop.eval_sequences}}}};
  if (job.model.num_experts > 0) json["elastic"] = to_json(job.elastic);
  return json;
}

}  // namespace mmoe
