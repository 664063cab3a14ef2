#include "sim/plan/remedies.h"

#include <algorithm>
#include <array>
#include <utility>

#include "sim/config/enum_names.h"
#include "sim/plan/shell_word.h"
#include "sim/plan/step_draws.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kMostTimesDevices = 64;

// The keys that a search of layouts fills in, those that save most first.
constexpr std::array kSearchedKeys = {
    "training.recompute",        "training.recompute_num_layers", "training.micro_batch_size",
    "training.expert_saving",    "parallelism.zero_stage",        "parallelism.zero_group",
    "parallelism.tensor",        "parallelism.sequence",          "parallelism.pipeline",
    "parallelism.stage_layers",  "parallelism.context",           "parallelism.expert",
    "parallelism.expert_tensor", "parallelism.schedule",          "parallelism.virtual_pipeline",
    "parallelism.context_kind",  "training.moe.dispatcher",       "training.offload"};

// What saves memory on every device, whatever the layout.
Change fused_attention() { return {"attention that keeps no scores", {{"training.attention_backend", "flash"}}}; }
Change expandable_segments() {
  return {"an allocator with expandable segments", {{"hardware.allocator", "expandable_segments"}}};
}
bool keeps_scores(const Job& job) { return job.training.attention_backend == AttentionBackend::kUnfused; }
bool may_expand_segments(const Job& job) {
  return !job.hardware.spec.is_cpu && job.hardware.allocator == AllocatorKind::kDefault;
}

}  // namespace

std::vector<Change> layout_changes(const Job& job) {
  const ParallelismConfig& parallelism = job.parallelism;
  const TrainingConfig& training = job.training;
  const bool many = job.hardware.num_devices > 1;
  std::vector<Change> list;
  const auto add = [&](bool useful, std::string name, std::string key, std::string value) {
    if (useful) list.push_back({std::move(name), {{std::move(key), std::move(value)}}});
  };
  const bool moe = job.model.num_moe_layers() > 0;
  const Recompute& recompute = training.recompute;
  if (keeps_scores(job)) list.push_back(fused_attention());
  add(many && !recompute.any() && moe, "recompute the experts' activation function", "training.recompute",
      R"(["moe_activation"])");
  const bool keeps_experts = moe && !recompute.has("moe") && !recompute.full;
  add(keeps_experts && training.framework == TrainingConfig().framework &&
          training.expert_saving != ExpertSaving::kRecompute,
      "recompute what the experts keep", "training.expert_saving", "recompute");
  add(moe && !recompute.has("moe"), "recompute the experts", "training.recompute", R"(["moe"])");
  add(!recompute.full, "recompute whole layers", "training.recompute", "full");
  for (int64_t size = training.micro_batch_size / 2; size >= 1; size /= 2) {
    add(true, "smaller micro-batches", "training.micro_batch_size", std::to_string(size));
  }
  if (may_expand_segments(job)) list.push_back(expandable_segments());
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
  add(training.offload == Offload::kNone, "optimizer states on the host", "training.offload", "optimizer");
  return list;
}

std::vector<Change> search_changes(const Job& job) {
  std::vector<Change> list;
  for (const std::string key : kSearchedKeys) {
    if (job.given.contains(key)) list.push_back({key + " left open", {{key, "auto"}}});
  }
  if (keeps_scores(job)) list.push_back(fused_attention());
  if (may_expand_segments(job)) list.push_back(expandable_segments());
  if (k_varies(job) && !job.elastic.budget_is_auto) {
    list.push_back(
        {job.elastic.budget ? "elastic.budget left open" : "an activation budget", {{"elastic.budget", "auto"}}});
  }
  // CPU ranks share one machine's memory.
  for (int64_t factor = 2; factor <= kMostTimesDevices && !job.hardware.spec.is_cpu; factor *= 2) {
    const std::string devices = std::to_string(job.hardware.num_devices * factor);
    list.push_back({devices + " devices", {{"hardware.num_devices", devices}}, factor > 2});
  }
  return list;
}

std::vector<Remedy> find_remedies(const RemedySearch& search) {
  std::vector<Remedy> found;
  bool was_enough = false;
  for (const Change& change : search.changes) {
    if (change.is_larger && was_enough) continue;
    was_enough = false;
    try {
      const std::optional<Outcome> outcome = search.evaluate(search.load(change.settings));
      if (!outcome) continue;
      was_enough = true;
      found.push_back({change.name, change.settings, outcome->probability,
                       search.tokens_per_second.value_or(0) - outcome->tokens_per_second_per_device});
    } catch (const ConfigError&) {  // not a valid job: no remedy
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Remedy& a, const Remedy& b) {
    return a.tokens_per_second_lost < b.tokens_per_second_lost;
  });
  if (search.tokens_per_second) return found;
  for (Remedy& remedy : found) remedy.tokens_per_second_lost.reset();
  return found;
}

std::vector<Remedy> find_remedies(const Job& job, double tokens_per_second, double confidence,
                                  const std::function<Outcome(const Job&)>& evaluate) {
  const nlohmann::json resolved = to_json(job);
  RemedySearch search;
  search.changes = layout_changes(job);
  search.load = [&](const Overrides& settings) { return parse_job(resolved, job.where, "/", settings); };
  search.evaluate = [&](const Job& changed) {
    const Outcome outcome = evaluate(changed);
    return outcome.probability < confidence ? std::nullopt : std::optional(outcome);
  };
  search.tokens_per_second = tokens_per_second;
  return find_remedies(search);
}

Overrides with_settings(const Overrides& flags, const Overrides& settings) {
  Overrides list;
  for (const auto& flag : flags) {
    const bool changed = std::any_of(settings.begin(), settings.end(), [&](const auto& setting) {
      return flag.first == setting.first || flag.first.starts_with(setting.first + ".");
    });
    if (!changed) list.push_back(flag);
  }
  list.insert(list.end(), settings.begin(), settings.end());
  return list;
}

std::string command_of(const std::string& command, const Job& job, const Overrides& settings) {
  std::string line = command + " --job " + shell_word(job.where);
  for (const auto& [key, value] : with_settings(job.overrides, settings)) line += " --" + key + " " + shell_word(value);
  return line;
}

nlohmann::json to_json(const std::string& command, const Job& job, const std::vector<Remedy>& remedies,
                       const std::string& flags) {
  nlohmann::json list = nlohmann::json::array();
  for (const Remedy& remedy : remedies) {
    const auto& lost = remedy.tokens_per_second_lost;
    list.push_back({{"change", remedy.change},
                    {"command", command_of(command, job, remedy.settings) + flags},
                    {"probability", remedy.probability},
                    {"tokens_per_second_lost", lost ? nlohmann::json(*lost) : nlohmann::json()}});
  }
  return list;
}

}  // namespace mmoe
