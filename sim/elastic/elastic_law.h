#pragma once
// The exact law of the vector (k_1, ..., k_L) of one micro-batch, with and without an activation budget.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/discrete_law.h"
#include "sim/elastic/grid_law.h"
#include "sim/elastic/group_law.h"
#include "sim/elastic/value_law.h"

namespace mmoe {

// A cost of each layer and k: values[layer][k - k_min].
using LayerCosts = std::vector<std::vector<double>>;

struct Moments {
  double mean = 0;
  double variance = 0;
};

// The law of one micro-batch's draw. The free law is the product over layers (granularity `layer`) or one k for all
// layers (`micro_batch`, `global_batch`); the budget conditions it on the sum of k_l in every group of layers.
// Kind `window` with W micro-batches in flight is held by the sufficient bound floor(B / W) on each micro-batch, under
// which every window keeps B; with one micro-batch in flight that is `at_most` B.
// Methods clip and rescale do not condition: ConfigError (see CutLaw).
// Sampling `top_p` is no draw of k and is refused (MMOE_CHECK); the config must have passed ElasticConfig::validate.
class ElasticLaw {
 public:
  ElasticLaw(const ElasticConfig& config, int num_moe_layers, int micro_batches_in_flight = 1);

  ElasticLaw without_budget() const;  // same groups, no bound
  // The law of one group's layers alone (a pipeline rank), numbered from 0.
  ElasticLaw of_group(int group) const;
  int num_layers() const { return num_layers_; }
  int k_min() const { return k_min_; }
  int k_max() const { return k_max_; }
  int num_groups() const { return static_cast<int>(group_sizes_.size()); }
  const std::vector<int64_t>& group_sizes() const { return group_sizes_; }  // one group of all layers without a budget
  bool one_k_for_all_layers() const { return granularity_ != Granularity::kLayer; }
  // Draws among n micro-batches of one step that are independent: n, or 1 for granularity global_batch.
  int64_t independent_draws(int64_t n) const { return granularity_ == Granularity::kGlobalBatch ? 1 : n; }

  DiscreteLaw free_draw() const;               // of one k_l before any budget
  DiscreteLaw sum_of_group(int group) const;   // of the sum of k_l over one group
  DiscreteLaw sum() const;                     // of the sum of k_l over all layers
  std::vector<DiscreteLaw> marginals() const;  // of k_l, by layer; each on k_min..k_max
  double log_probability() const;              // log of the free law's probability of the budget; 0 without one
  // KL divergence from the free law, nats. Of the whole vector it is -log_probability(), since the budget only
  // conditions.
  double kl_divergence() const;
  std::vector<double> kl_divergence_by_layer() const;  // of the marginals
  double entropy() const;                              // of the whole vector, nats
  // E[constant + sum_l weight[l] k_l] here over the same under the free law. Weights: FLOPs of one active expert.
  double expected_flops_fraction(const std::vector<double>& weights, double constant = 0) const;

  // Exact mean and variance of sum_l costs[l][k_l - k_min].
  Moments moments(const LayerCosts& costs) const;
  // Law of sum_l costs[l][k_l - k_min] for one micro-batch; num_cells sets the grid's fineness (see GridLaw).
  GridLaw additive_law(const LayerCosts& costs, int64_t num_cells = 2048) const;
  // The same summed over the n micro-batches of one step.
  GridLaw additive_law_of_step(const LayerCosts& costs, int64_t num_micro_batches, int64_t num_cells = 2048) const;

  // Groups in layer order (granularity `layer` only) and the law of the one k (other granularities).
  const std::vector<GroupLaw>& groups() const { return groups_; }
  const DiscreteLaw& shared_draw() const { return shared_draw_; }

 private:
  Granularity granularity_;
  int num_layers_, k_min_, k_max_;
  std::vector<int64_t> group_sizes_;
  std::shared_ptr<const SumCounts> counts_;
  std::vector<GroupLaw> groups_;
  DiscreteLaw shared_draw_;
  double shared_log_probability_ = 0;
};

// Of the sum of k_l over `num_moe_layers` layers without a budget; 0 where there are none.
DiscreteLaw free_sum(const ElasticConfig& config, int64_t num_moe_layers);

}  // namespace mmoe
