#pragma once
// A training framework as the cluster model sees it: memory conventions and speed on one device, from a file.

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/parallelism_config.h"
#include "sim/config/recompute_modules.h"
#include "sim/config/training_config.h"
#include "sim/framework/memory_conventions.h"
#include "sim/framework/time_parameters.h"
#include "sim/network/network.h"
#include "sim/throughput/roofline.h"

namespace mmoe {

// How layers are cut into pipeline stages where the job does not say: equal numbers, or equal cost with the head (a
// block is placed, then the rank advances when the cost so far passes its share; nanotron).
enum class StageCut { kEven, kCost };

// A degree of parallelism that a framework may lack. Those that name a family of layouts come first, so that the family
// is rejected for what all of it lacks.
struct SplitDegree {
  const char* name;  // its key in `parallelism`
  int64_t ParallelismConfig::*size;
  const char* missing;
};
inline constexpr std::array<SplitDegree, 5> kSplitDegrees = {
    {{"tensor", &ParallelismConfig::tensor, "the framework has no tensor parallelism"},
     {"pipeline", &ParallelismConfig::pipeline, "the framework has no pipeline parallelism"},
     {"context", &ParallelismConfig::context, "the framework has no context parallelism"},
     {"expert", &ParallelismConfig::expert, "the framework has no expert parallelism"},
     {"expert_tensor", &ParallelismConfig::expert_tensor, "the framework has no expert-tensor parallelism"}}};

// Cuts of layers into pipeline stages, groups that ZeRO shards over, how many layers are recomputed, what is offloaded:
// activations everywhere, or only where they stand alone, without a pipeline and without recomputation.
inline constexpr std::array kChoices = {"stage_layers",      "zero_group",          "recompute_num_layers",
                                        "offload_optimizer", "offload_activations", "offload_activations_alone"};

struct Framework {
  std::string name, meaning;
  StageCut stage_cut = StageCut::kEven;
  double vocabulary_multiple = 1;    // a rank's share of the vocabulary is rounded up to it
  bool splits_vocabulary = true;     // over tensor parallel ranks; else each holds all of it, and runs its own tokens
  std::vector<std::string> options;  // words that training.options may hold
  // What it can run; a search offers no other. A job may name another, to see what it would bring.
  std::vector<PipelineSchedule> schedules = {PipelineSchedule::kOneForwardOneBackward, PipelineSchedule::kInterleaved};
  std::vector<ContextKind> context_kinds = {ContextKind::kRing};
  std::vector<std::string> splits = {"tensor", "context", "pipeline", "expert", "expert_tensor"};  // degrees above 1
  bool splits_tied_embeddings = true;  // over pipeline stages
  std::vector<int64_t> zero_stages = {0, 1, 2, 3};
  std::vector<std::string> recomputes = recompute_words();  // beside none
  std::vector<DispatcherKind> dispatchers = {DispatcherKind::kAllToAll, DispatcherKind::kHierarchical};
  // Beyond degrees and schedules: what there is to choose.
  std::vector<std::string> choices = {kChoices.begin(), kChoices.end()};
  MemoryConventions memory;
  TimeParameters time;
  // One rank's rates of our trainer's own operations, where they were measured: they replace `time` but for transfers.
  std::optional<RooflineParameters> operations;
  NetworkParameters network;
  // Standard deviation of the logarithm of measured over predicted, by quantity ("step_seconds"), from rows that were
  // not fitted.
  std::map<std::string, double> spread;
  std::map<std::string, std::string>
      fitted_to;  // by section: which measurements; network: the calibration of its links

  // MoE models have their own where the file gives it ("moe_step_seconds").
  double spread_of(const std::string& quantity, bool is_moe) const;

  // Throws ConfigError for a word of `chosen` (training.options) that is none of `options`.
  void check_options(const std::vector<std::string>& chosen, const std::string& where) const;
};

// A preset's name or a file's path, with the numbers that hold on `device`. Throws ConfigError; `where` names the key
// that asked for it.
Framework load_framework(const std::string& framework, const DeviceSpec& device, const std::string& where);

}  // namespace mmoe
