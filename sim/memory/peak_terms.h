#pragma once
// A step's peak as a function of the drawn k_l, in the form whose exact law sim/elastic computes.

#include <functional>

#include "sim/config/job.h"
#include "sim/elastic/running_maximum.h"
#include "sim/memory/layer_memory.h"
#include "sim/units/units.h"

namespace mmoe {

// The peak of one micro-batch as a running maximum over the MoE layers:
//   peak = max(least, persistent + max over l of fixed[l] + K_1 + ... + K_l + bump[l][k_l - k_min])
// with K_l as in RunningMaximumTerms.
// For a model without MoE layers `terms` is empty and `least` is the peak.
struct PeakTerms {
  Bytes persistent;
  Bytes least;
  RunningMaximumTerms terms;
};
PeakTerms peak_terms(const Job& job);

// The same of a rank that holds all layers, from what one layer takes at a given k, with about `slope` bytes kept for
// each active expert: what is kept beside them becomes the surplus.
PeakTerms peak_terms(const Job& job, Bytes persistent, double slope,
                     const std::function<LayerMemory(int64_t layer, int k)>& memory_of);

}  // namespace mmoe
