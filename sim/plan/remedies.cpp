#include "sim/plan/remedies.h"

#include <algorithm>
#include <utility>

#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

struct Change {
  std::string name;
  Overrides settings;
};

std::vector<Change> changes(const Job& job) {
  const ParallelismConfig& parallelism = job.parallelism;
  const TrainingConfig& training = job.training;
  const bool gpu = !job.hardware.spec.is_cpu, many = job.hardware.num_devices > 1;
  std::vector<Change> list;
  const auto add = [&](bool useful, std::string name, std::string key, std::string value) {
    if (useful) list.push_back({std::move(name), {{std::move(key), std::move(value)}}});
  };
  const bool moe = job.model.num_moe_layers() > 0;
  const Recompute& recompute = training.recompute;
  add(training.attention_backend == AttentionBackend::kUnfused, "attention that keeps no scores",
      "training.attention_backend", "flash");
  add(many && recompute.modules.empty() && !recompute.full && moe, "recompute the experts' activation function",
      "training.recompute", R"(["moe_activation"])");
  const bool keeps_experts = moe && !recompute.has("moe") && !recompute.full;
  add(keeps_experts && training.framework == TrainingConfig().framework &&
          training.expert_saving != ExpertSaving::kRecompute,
      "recompute what the experts keep", "training.expert_saving", "recompute");
  add(moe && !recompute.has("moe"), "recompute the experts", "training.recompute", R"(["moe"])");
  add(!recompute.full, "recompute whole layers", "training.recompute", "full");
  for (int64_t size = training.micro_batch_size / 2; size >= 1; size /= 2) {
    add(true, "smaller micro-batches", "training.micro_batch_size", std::to_string(size));
  }
  add(gpu && job.hardware.allocator == AllocatorKind::kDefault, "an allocator with expandable segments",
      "hardware.allocator", "expandable_segments");
  if (!many) return list;
  add(!parallelism.sequence && parallelism.tensor > 1, "sequence parallelism", "parallelism.sequence", "true");
  for (int64_t stage = parallelism.zero_stage + 1; stage <= 3; ++stage) {
    add(true, "sharding by ZeRO stage " + std::to_string(stage), "parallelism.zero_stage", std::to_string(stage));
  }
  const auto degree = [&](const char* name, const char* key, int64_t value) {
    for (const int64_t factor : {2, 4}) {
      add(true, name + std::string(" ") + std::to_string(value * factor), key, std::to_string(value * factor));
    }
  };
  const size_t tensor_sizes = list.size();
  degree("tensor parallel size", "parallelism.tensor", parallelism.tensor);
  // The first split over tensor ranks is one change with the way that saves most.
  for (size_t i = tensor_sizes; i < list.size() && parallelism.tensor == 1 && !parallelism.sequence; ++i) {
    list[i].name += " with sequence parallelism";
    list[i].settings.emplace_back("parallelism.sequence", "true");
  }
  degree("pipeline of", "parallelism.pipeline", parallelism.pipeline);
  degree("context parallel size", "parallelism.context", parallelism.context);
  if (moe) degree("expert parallel size", "parallelism.expert", parallelism.expert);
  if (moe) degree("expert-tensor parallel size", "parallelism.expert_tensor", parallelism.expert_tensor);
  add(training.offload == "none", "optimizer states on the host", "training.offload", "optimizer");
  return list;
}

}  // namespace

std::string command_of(const Job& job, const Remedy& remedy) {
  std::string command = "mmoe simulate --job " + job.where;
  const auto add = [&](const Overrides::value_type& flag) { command += " --" + flag.first + " '" + flag.second + "'"; };
  for (const auto& flag : job.overrides) {
    const bool changed = std::any_of(remedy.settings.begin(), remedy.settings.end(),
                                     [&](const auto& setting) { return setting.first == flag.first; });
    if (!changed) add(flag);
  }
  for (const auto& setting : remedy.settings) add(setting);
  return command;
}

nlohmann::json to_json(const Job& job, const std::vector<Remedy>& remedies) {
  nlohmann::json list = nlohmann::json::array();
  for (const Remedy& remedy : remedies) {
    list.push_back({{"change", remedy.change},
                    {"command", command_of(job, remedy)},
                    {"probability", remedy.probability},
                    {"tokens_per_second_lost", remedy.tokens_per_second_lost}});
  }
  return list;
}

std::vector<Remedy> find_remedies(const Job& job, double tokens_per_second, double confidence,
                                  const std::function<Outcome(const Job&)>& evaluate) {
  const nlohmann::json resolved = to_json(job);
  std::vector<Remedy> found;
  for (const Change& change : changes(job)) {
    try {
      const Outcome outcome = evaluate(parse_job(resolved, job.where, "/", change.settings));
      if (outcome.probability < confidence) continue;
      found.push_back({change.name, change.settings, outcome.probability,
                       tokens_per_second - outcome.tokens_per_second_per_device});
    } catch (const ConfigError&) {  // not a valid job: no remedy
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Remedy& a, const Remedy& b) {
    return a.tokens_per_second_lost < b.tokens_per_second_lost;
  });
  return found;
}

}  // namespace mmoe
