#pragma once
// Draws under a budget of kind `window`: every sliding sum over the micro-batches in flight keeps the bound.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/discrete_law.h"
#include "sim/elastic/sum_counts.h"

namespace mmoe {

// One group's micro-batches of a step are drawn in order, each from the free law given that its sum is at most what the
// last width - 1 sums leave of the bound B. The exact law given all windows at once would have to carry width - 1 sums
// as its state, which is not tractable; this causal law is what is used. Every window keeps B by construction, and no
// draw is impossible: dropping the oldest sum s >= n k_min of a window that keeps B leaves at least n k_min. Each draw
// is a conditioned free draw, so the KL divergence of a step is the sum of E[-log P(sum <= room left)] (chain rule).
//
// A step's draws are a pure function of (seed, step, global micro-batch, layer). O(layers (k_max - k_min + 1)) a draw.
class WindowSampler {
 public:
  // Budget of kind window, granularity `layer`. `widths[g]`: micro-batches in flight of group g. Throws ConfigError
  // where a window cannot keep its bound even at k_min.
  WindowSampler(const ElasticConfig& config, int num_moe_layers, std::vector<int64_t> widths);

  // k of [micro-batch][MoE layer] for one replica's step.
  std::vector<std::vector<int>> draw_step(uint64_t seed, int64_t step, int64_t first_micro_batch,
                                          int64_t num_micro_batches) const;

 private:
  int num_layers_, k_min_;
  std::vector<int64_t> widths_;
  std::vector<GroupBound> groups_;  // bound.sum: of a window's sum of k_l - k_min
  std::shared_ptr<const SumCounts> counts_;
};

// What the causal law does to one group, simulated on sums alone.
struct WindowLaw {
  DiscreteLaw largest_window;  // of the largest sliding sum of k in a step, as sampled
  double mean_sum = 0;         // of k in one micro-batch: mean of what each is expected to draw given the room left
  double kl_divergence = 0;    // nats, mean over the micro-batches of a step
  double standard_error = 0;   // of kl_divergence
};

// `free`: of one micro-batch's sum of k over the group, without a budget. `bound`: on the sum of k over a window.
WindowLaw window_law(const DiscreteLaw& free, int64_t bound, int64_t width, int64_t num_micro_batches,
                     int64_t num_steps = 200, uint64_t seed = 0);

}  // namespace mmoe
