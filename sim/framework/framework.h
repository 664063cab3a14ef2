#pragma once
// A training framework as the cluster model sees it: memory conventions and speed on one device, from a file.

#include <map>
#include <string>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/parallelism_config.h"
#include "sim/framework/memory_conventions.h"
#include "sim/framework/time_parameters.h"
#include "sim/network/network.h"

namespace mmoe {

// How layers are cut into pipeline stages where the job does not say: equal numbers, or equal cost with the head (a
// block is placed, then the rank advances when the cost so far passes its share; nanotron).
enum class StageCut { kEven, kCost };

struct Framework {
  std::string name, meaning;
  StageCut stage_cut = StageCut::kEven;
  double vocabulary_multiple = 1;    // a rank's share of the vocabulary is rounded up to it
  std::vector<std::string> options;  // words that training.options may hold
  // What it can run; a search offers no other. A job may name another, to see what it would bring.
  std::vector<PipelineSchedule> schedules = {PipelineSchedule::kOneForwardOneBackward, PipelineSchedule::kInterleaved};
  std::vector<ContextKind> context_kinds = {ContextKind::kRing};
  MemoryConventions memory;
  TimeParameters time;
  NetworkParameters network;
  // Standard deviation of the logarithm of measured over predicted, by quantity ("step_seconds"), from rows that were
  // not fitted.
  std::map<std::string, double> spread;
  std::map<std::string, std::string> fitted_to;  // by section: which measurements

  double spread_of(const std::string& quantity) const;
  // Of the time of a step and of MFU; MoE models have their own where the file gives "moe_step_seconds".
  double step_spread(bool is_moe) const;

  // Throws ConfigError for a word of `chosen` (training.options) that is none of `options`.
  void check_options(const std::vector<std::string>& chosen, const std::string& where) const;
};

// A preset's name or a file's path, with the numbers that hold on `device`. Throws ConfigError; `where` names the key
// that asked for it.
Framework load_framework(const std::string& framework, const DeviceSpec& device, const std::string& where);

}  // namespace mmoe
