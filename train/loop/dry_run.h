#pragma once
// One step of one rank of a job of any size, in this process: the trainer itself on meta tensors, which have shapes and
// no values, with backends that only count. What it would allocate and send stands beside the plan.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/plan/trainer_traffic.h"

namespace mmoe {

inline constexpr double kDryRunPeakBound = 0.02;  // relative, of the peak; messages must be equal

// Bytes of one rank; the parts but the last are there in every step, and all add up to the peak.
struct DryRunMemory {
  double weights = 0, gradients = 0, optimizer = 0;
  double buffers = 0;      // tables, the step's report, on the CPU its tokens
  double activations = 0;  // at the peak, with work memory and what is in transfer
  double peak() const { return weights + gradients + optimizer + buffers + activations; }
};

struct DryRun {
  int64_t rank = 0, stage = 0;
  DryRunMemory counted, predicted;
  std::string moment;  // of the predicted peak
  TrafficByGroup counted_messages, predicted_messages;
  double seconds = 0;

  double peak_error() const { return predicted.peak() / counted.peak() - 1; }
  bool peak_agrees() const { return peak_error() <= kDryRunPeakBound && peak_error() >= -kDryRunPeakBound; }
  bool messages_agree() const { return counted_messages == predicted_messages; }
};

// `k` of [global micro-batch][MoE layer]. The predictions are trainer_rank_peak and trainer_rank_traffic. Of a job for
// GPUs the operations allocate as on CUDA. Experts get the rows that training.moe.load states: those of one rank share
// its part evenly. No device, data or other rank is needed. Throws ConfigError for what cannot be trained.
DryRun dry_run(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k);

}  // namespace mmoe
