#pragma once
// How unevenly tokens spread over experts: the busiest expert-parallel rank decides time and memory.

#include <cstdint>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// Shares of the routed rows by expert; they add up to 1.
//   zipf s:      the i-th most wanted expert has a share proportional to i^-s
//   dirichlet a: drawn from a symmetric Dirichlet law of concentration a
// Which expert is wanted most has nothing to do with where it lies, so places are drawn too.
std::vector<double> zipf_shares(int64_t num_experts, double exponent);

// Expected rows of the busiest of num_ranks equal groups of experts, over balanced ones, where `shares` lie in random
// places: the mean of `num_draws` draws from `seed`, and its standard error.
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
// dropped or padded every rank works on its capacity, and the factor is 1. Throws ConfigError.
double expert_load_factor(const Job& job);
// For the memory of one rank of the expert group: a measured load says what its own experts get, the most of several
// lists; of others the busiest rank stands for all. Throws ConfigError.
double expert_load_factor(const Job& job, int64_t expert_rank);

// What no rank's factor passes, with this confidence, by the job's load: a quantile over the places of Zipf's shares
// and over Dirichlet's draws (of 20,000; each for the whole run), the highest of a measured load. Throws ConfigError.
double expert_load_bound(const Job& job, double confidence);
// Whether that bound can be passed: the load is a law, and experts lie on several ranks.
bool expert_load_is_random(const Job& job);
// Whether the load is a run's metrics.jsonl, which tells of every k apart (ExpertPairs), and experts lie on several
// ranks.
bool load_is_by_k(const Job& job);

}  // namespace mmoe
