#pragma once
// The law of the largest sliding sum: what a pipeline stage holds in flight, at its highest over a step.

#include <cstdint>

#include "sim/elastic/discrete_law.h"

namespace mmoe {

struct TailProbability {
  double value = 0;
  double standard_error = 0;  // 0: exact
};

// P(max over i of X_i + ... + X_(i + width - 1) > bound) for `count` independent X of one law; width and count >= 1, a
// width above count counts as count. Exact by carrying the law of the last width - 1 values where that is few states.
// Else simulated without bias (Naiman, Priebe, "Computing scan statistic p values using importance sampling", JCGS 10,
// 2001): one window is drawn given that it passes the bound, the rest freely, and the sum of all windows' probabilities
// is weighted by 1 / (windows that pass), so the relative error does not grow as the probability falls. It lies between
// P(one window passes) and min(1, number of windows times that).
TailProbability sliding_maximum_tail(const DiscreteLaw& law, int64_t width, int64_t count, int64_t bound,
                                     int64_t num_samples = 2000, uint64_t seed = 0);

}  // namespace mmoe
