#pragma once
// The law of a running maximum over the layers of one micro-batch: the peak of memory that fills up layer by layer.

#include <vector>

#include "sim/elastic/elastic_law.h"
#include "sim/elastic/value_law.h"

namespace mmoe {

// M = max over layers l of fixed[l] + K_1 + ... + K_l + bump[l][k_l - k_min], where layer l keeps
// K_l = slope * k_l + surplus[l][k_l - k_min]; slope >= 0. Without a surplus the sum of k is all that the past leaves.
struct RunningMaximumTerms {
  std::vector<double> fixed;
  double slope = 0;
  LayerCosts bump;
  LayerCosts surplus = {};  // empty: none
};

struct RunningMaximumLaw {
  ValueLaw values;      // of one micro-batch; values.max() is the largest that the law allows
  double rounding = 0;  // values are too large by at most this; 0 where no states had to be merged
};

// Groups that are no runs of layers (interleaved pipelines) are taken one at a time (ElasticLaw::of_group).
// Exact unless the states (sum of a group's later layers, pruned maximum) pass an internal limit: then maxima are
// rounded up to a grid and `rounding` says by how much. A surplus makes most maxima differ, so that the limit comes
// soon (some ten layers). Terms are first rounded to 2^-60 of the largest possible value.
RunningMaximumLaw running_maximum(const ElasticLaw& law, const RunningMaximumTerms& terms);

// The joint law of M and the sum of k_l: M = offset + slope * (sum - least_sum), with a probability for each sum. For a
// law of one group and granularity `layer`; every bound on the sum is a restriction of it.
struct RunningMaximumBySum {
  struct Row {
    double offset;
    std::vector<double> probability;  // [sum - least_sum]
  };
  int64_t least_sum = 0;
  double slope = 0;
  double rounding = 0;
  std::vector<Row> rows;  // by rising offset
};
RunningMaximumBySum running_maximum_by_sum(const ElasticLaw& law, const RunningMaximumTerms& terms);

// The largest M that the law allows, by dynamic programming.
double largest_running_maximum(const ElasticLaw& law, const RunningMaximumTerms& terms);

}  // namespace mmoe
