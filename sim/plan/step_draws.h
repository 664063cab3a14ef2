#pragma once
// The draws of k that a replica's step takes.

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/config/job.h"
#include "sim/elastic/sampler.h"
#include "sim/elastic/window_sampler.h"

namespace mmoe {

// Whether the job draws k, from more than one value.
bool k_varies(const Job& job);

// Each micro-batch on its own, or under has_windows sliding sums that keep their bound. `job` must outlive this and
// draw k.
class StepDraws {
 public:
  explicit StepDraws(const Job& job);

  // k of [micro-batch][MoE layer] in the step of the replica whose first micro-batch has this global index, by the
  // job's seed.
  std::vector<std::vector<int>> draw(int64_t step, int64_t first_micro_batch = 0) const;

 private:
  const Job& job_;
  KSampler sampler_;
  std::optional<WindowSampler> window_;
};

}  // namespace mmoe
