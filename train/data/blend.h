#pragma once
// Which of several sources each training sample comes from.

#include <cstdint>
#include <mutex>
#include <vector>

namespace mmoe {

// Law: sample i comes from the source that lags its share most, the largest w_d * max(i, 1) - (samples of d so far);
// of equals the first (Megatron-LM, megatron/core/datasets/helpers.cpp, build_blending_indices). Shares are whole
// numbers of 2^-30, so that the choice is exact on every machine. It depends on i alone; reading on from any place
// costs a step a sample, going to it a step for each of the samples before it, once. Safe from several threads.
class Blend {
 public:
  struct Place {
    int source = 0;
    int64_t index = 0;  // how many samples came from this source before
  };

  // Weights above 0, in any unit. ConfigError for others, and for one that is below 2^-30 of their sum.
  explicit Blend(const std::vector<double>& weights);
  Place at(int64_t position) const;

 private:
  struct State {
    int64_t position = 0;
    std::vector<int64_t> lag, counts;  // lag in 2^-30 samples
  };
  Place take(State& state) const;

  std::vector<int64_t> shares_;
  int64_t one_ = 0;  // sum of the shares
  mutable std::mutex mutex_;
  mutable std::vector<State> milestones_;  // at every kBlock-th position reached so far
  mutable State next_;                     // behind the place that was asked for last
};

}  // namespace mmoe
