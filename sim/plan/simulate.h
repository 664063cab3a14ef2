#pragma once
// The simulator's answer for a job: does it fit, what fills the memory, how long does a step take.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/memory/step_memory.h"
#include "sim/plan/remedies.h"
#include "sim/throughput/throughput.h"

namespace mmoe {

enum class FitVerdict { kFits, kAtRisk, kDoesNotFit };

struct Fit {
  FitVerdict verdict = FitVerdict::kFits;
  double probability = 1;  // that no step of the horizon passes the limit
  double confidence = 0.99;
  int64_t horizon_steps = 0;
  Bytes limit;
  std::vector<Remedy> remedies;  // only where the verdict is not kFits
};

// Activations that one layer keeps from its forward to its backward pass: fixed + per_k * k_l.
struct LayerActivations {
  int64_t layer = 0;
  Bytes fixed, per_k;
};

// What is alive at the highest moment of the worst draw that the law allows; the parts add up to the peak.
struct MemoryReport {
  PersistentMemory persistent;
  StepPeak peak;
  Bytes framework;  // overhead of the calibration
  Bytes total() const { return peak.total + framework; }
  std::vector<LayerActivations> layers;
};

struct Plan {
  Job job;
  Fit fit;
  MemoryReport memory;
  Throughput throughput;
  Summary sum_k;           // of one micro-batch, all MoE layers
  Summary peak_allocated;  // bytes of a step, over the draws
  Interval peak_interval;  // 90 %, of the worst draw's peak
  int64_t run_steps = 0;   // 0: training.tokens was not given
  std::string calibration_source;
};

// Throws ConfigError for jobs on more than one device and for devices without the peaks that are needed.
Plan simulate(const Job& job, const Calibration& calibration);

// The keys of design.md's `mmoe simulate`. `flags`: words at the end of each remedy's command, or empty.
nlohmann::json to_json(const Plan& plan, const std::string& flags = "");

const char* to_string(FitVerdict verdict);

}  // namespace mmoe
