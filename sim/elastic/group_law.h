#pragma once
// The law of the independent layers of one group, conditioned on their sum.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/elastic/discrete_law.h"
#include "sim/elastic/sum_counts.h"

namespace mmoe {

// The layers of one group with independent k_l of the same weights, given that the sum of k_l - k_min is at
// most, or exactly, `bound.sum`. Seen from the last layer to the first they are a Markov chain over the sum r of the
// layers already drawn. Sums are of k_l - k_min throughout.
class GroupLaw {
 public:
  GroupLaw(std::shared_ptr<const SumCounts> counts, const GroupBound& bound);

  int size() const { return bound_.size(); }
  // The model's MoE layer that is the i-th of the group.
  int layer(int i) const { return bound_.layers[static_cast<size_t>(i)]; }
  const std::vector<int>& layers() const { return bound_.layers; }
  int num_choices() const { return counts_->num_choices(); }
  int64_t bound() const { return bound_.sum; }
  SumBound kind() const { return bound_.kind; }
  bool is_conditioned() const { return conditioned_; }  // false: the bound excludes nothing
  double log_probability() const;                       // of the condition under the free law
  DiscreteLaw sum() const;
  std::vector<double> marginal() const;  // [k - k_min], the same for every layer of the group
  // Largest r that can occur when num_left layers are not yet drawn.
  int64_t largest_drawn(int num_left) const;
  // probabilities[j] of the next layer's k - k_min = j, when num_left layers (this one included) are left and the
  // layers after it sum to r. All 0 if no draw leads to r.
  void next_draw(int num_left, int64_t r, double* probabilities) const;
  // Law of the sum of the num_left layers not yet drawn given r: probabilities of 0, 1, ...
  std::vector<double> rest(int num_left, int64_t r) const;

 private:
  std::shared_ptr<const SumCounts> counts_;
  GroupBound bound_;
  bool conditioned_;
};

}  // namespace mmoe
