#pragma once
// How unevenly tokens spread over experts: the busiest expert-parallel rank decides time and memory.

#include <cstdint>
#include <utility>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// Shares of the routed rows by expert; they add up to 1.
//   zipf s:      the i-th most wanted expert has a share proportional to i^-s
//   dirichlet a: drawn from a symmetric Dirichlet law of concentration a
// Which expert is wanted most has nothing to do with where it lies, so places are drawn too.
std::vector<double> zipf_shares(int64_t num_experts, double exponent);

// How many of a token's k choices each expert gets in the mean, where a share of the routed rows is wanted for each: k
// shares[e], but never more than one. What passes it goes to the other experts in proportion to their shares (inclusion
// probabilities proportional to size; Tille, "Sampling algorithms", 2006, section 2.10). `shares` add up to 1; k, which
// need not be whole, is at most their number.
std::vector<double> choices_by_expert(const std::vector<double>& shares, double k);

// Rows of the busiest expert-parallel rank over balanced ones, by k: with E / R experts it gets at most min(k, E / R)
// of a token's k choices, so that the factor falls as k rises.
class LoadByK {
 public:
  LoadByK(double at_every_k = 1)
      : factors_{at_every_k} {}  // NOLINT(google-explicit-constructor): a plain factor is one
  LoadByK(int first_k, std::vector<double> factors) : first_k_(first_k), factors_(std::move(factors)) {}
  double at(double k) const;  // between two k in proportion; beyond the ends as there
  double highest() const;

 private:
  int first_k_ = 1;
  std::vector<double> factors_;  // of first_k_, first_k_ + 1, ...
};

// Expected rows of the busiest of num_ranks equal groups of experts, over balanced ones, where `shares` lie in random
// places: the mean of `num_draws` draws from `seed`, and its standard error. No expert counts as full
// (choices_by_expert).
struct LoadFactor {
  double mean = 1, standard_error = 0;
};
LoadFactor busiest_rank(const std::vector<double>& shares, int64_t num_ranks, int64_t num_draws = 1000,
                        uint64_t seed = 0);
LoadFactor busiest_rank_dirichlet(int64_t num_experts, double concentration, int64_t num_ranks,
                                  int64_t num_draws = 1000, uint64_t seed = 0);

// Of a job's load (training.moe.load). Balanced loads give 1: what routing adds to balance by chance is part of the
// framework's own constants. A measured load is a JSON file with one number an expert, in their order, or a list of
// such lists (of several steps: their mean factor), or the metrics.jsonl of a run with --moe-metrics. Where tokens are
// dropped or padded every rank works on its capacity, and the factor is 1. Shares are those of choices_by_expert at
// each k of the job's range. Throws ConfigError.
LoadByK expert_load_factor(const Job& job);
// For the memory of one rank of the expert group, at every k alike as a dry run states it: a measured load says what
// its own experts get, the most of several lists; of others the busiest rank at k_min stands for all. Throws
// ConfigError.
double expert_load_factor(const Job& job, int64_t expert_rank);

// What no rank's factor passes at any k, with this confidence, by the job's load: a quantile over the places of Zipf's
// shares and over Dirichlet's draws (of 20,000; each for the whole run), the highest of a measured load. Throws
// ConfigError.
LoadByK expert_load_bound(const Job& job, double confidence);
// Whether that bound can be passed: the load is a law, and experts lie on several ranks.
bool expert_load_is_random(const Job& job);
// Whether the load is a run's metrics.jsonl, which tells of every k apart (ExpertPairs), and experts lie on several
// ranks.
bool load_is_by_k(const Job& job);

}  // namespace mmoe
