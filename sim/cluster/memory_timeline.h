#pragma once
// Memory of every pipeline rank over one step: what is alive during each pass of the schedule.

#include <functional>
#include <string>
#include <vector>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_model.h"
#include "sim/schedule/timeline.h"

namespace mmoe {

// From `seconds` (after the step's start) to the next sample; bytes beside the states.
struct MemorySample {
  double seconds = 0;
  double activations = 0;  // kept by micro-batches in flight
  double logits = 0;       // the loss
  double transient = 0;    // the layer at work
  std::string moment;      // "forward", "backward", "loss", ...
  double total() const { return activations + logits + transient; }
};

struct RankTimeline {
  RankStatic held;
  std::vector<MemorySample> samples;  // by rising time
  std::size_t peak = 0;               // the highest sample
  void add(MemorySample sample);
  double peak_bytes() const { return held.total().value + samples[peak].total(); }
};

// A step's passes and when each runs, with every MoE layer at `k`.
struct PlayedStep {
  PipelinePasses passes;
  Transfers transfers;
  Timeline times;
};
PlayedStep play_step(const Job& job, const Framework& framework, double k, const LoadByK& load = {});

// k of a MoE layer (counted from 0 over the model's MoE layers) in a micro-batch of the step.
using DrawnK = std::function<double(int64_t micro_batch, int64_t moe_layer)>;

// With the given draw; passes run when they do in `step`.
std::vector<RankTimeline> memory_timeline(const Job& job, const Framework& framework, const DrawnK& k,
                                          const PlayedStep& step, const LoadByK& load = {});

}  // namespace mmoe
