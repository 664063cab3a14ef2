#include "sim/memory/peak_terms.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "sim/memory/step_memory.h"

namespace mmoe {
namespace {

constexpr double kRounding = 1e-12;  // of sums of bytes, in parts of them

}  // namespace

PeakTerms peak_terms(const Job& job) {
  return peak_terms(job, persistent_memory(job).total(), kept_bytes_per_k(job),
                    [&](int64_t layer, int k) { return layer_memory(job, layer, k); });
}

PeakTerms peak_terms(const Job& job, Bytes persistent, double slope,
                     const std::function<LayerMemory(int64_t layer, int k)>& memory_of) {
  PeakTerms result;
  result.persistent = persistent;
  const int k_min = job.elastic.k_min, k_max = job.elastic.k_max;
  RunningMaximumTerms& terms = result.terms;
  terms.slope = slope;
  double fixed = residual_bytes(job);  // kept by earlier layers, apart from slope * (their sum of k)
  double least = 0;                    // of moments before the first MoE layer
  bool straight = true;
  const auto raise_last = [&](double bytes) {
    if (terms.bump.empty()) {
      least = std::max(least, bytes);
    } else {
      for (double& bump : terms.bump.back()) bump = std::max(bump, bytes - terms.fixed.back());
    }
  };
  for (int64_t layer = 0; layer < job.model.num_layers; ++layer) {
    if (!job.model.is_moe_layer(layer)) {
      const LayerMemory memory = memory_of(layer, 0);
      raise_last(fixed + std::max(sum_of(memory.forward_peak), sum_of(memory.backward_peak)));
      fixed += memory.kept;
      continue;
    }
    // Moments inside the layer come before what it keeps, so their bumps give slope * k and the surplus back.
    const double kept = memory_of(layer, k_min).kept - terms.slope * k_min;
    std::vector<double> bumps, surplus;
    for (int k = k_min; k <= k_max; ++k) {
      const LayerMemory memory = memory_of(layer, k);
      surplus.push_back(memory.kept - terms.slope * k - kept);
      straight &= std::abs(surplus.back()) < kRounding * memory.kept;
      bumps.push_back(std::max(sum_of(memory.forward_peak), sum_of(memory.backward_peak)) - terms.slope * k -
                      surplus.back());
    }
    terms.fixed.push_back(fixed);
    terms.bump.push_back(std::move(bumps));
    terms.surplus.push_back(std::move(surplus));
    fixed += kept;
  }
  if (straight) terms.surplus.clear();
  raise_last(fixed + sum_of(loss_head_peak(job)));
  result.least = result.persistent + Bytes{least};
  return result;
}

}  // namespace mmoe
