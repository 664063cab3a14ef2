#include "train/data/blend.h"

#include <cmath>
#include <numeric>
#include <string>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kUnit = 1 << 30;
constexpr int64_t kBlock = 4096;

}  // namespace

Blend::Blend(const std::vector<double>& weights) {
  MMOE_CHECK(!weights.empty()) << "a blend of nothing";
  double sum = 0;
  for (const double weight : weights) {
    if (!std::isfinite(weight) || weight <= 0) {
      throw ConfigError("--data: weight " + std::to_string(weight) + " must be a number above 0");
    }
    sum += weight;
  }
  for (const double weight : weights) {
    shares_.push_back(std::llround(weight / sum * kUnit));
    if (shares_.back() < 1) {
      throw ConfigError("--data: a weight is less than 1e-9 of their sum; leave that source out or weigh it more");
    }
  }
  one_ = std::accumulate(shares_.begin(), shares_.end(), int64_t{0});
  next_ = {0, std::vector<int64_t>(shares_.size()), std::vector<int64_t>(shares_.size())};
}

Blend::Place Blend::take(State& state) const {
  // Megatron-LM counts the first sample's shares at once and not again for the second.
  if (state.position != 1) {
    for (size_t d = 0; d < shares_.size(); ++d) state.lag[d] += shares_[d];
  }
  size_t source = 0;
  for (size_t d = 1; d < shares_.size(); ++d) {
    if (state.lag[d] > state.lag[source]) source = d;
  }
  state.lag[source] -= one_;
  ++state.position;
  return {static_cast<int>(source), state.counts[source]++};
}

Blend::Place Blend::at(int64_t position) const {
  MMOE_CHECK(position >= 0) << position;
  const std::lock_guard lock(mutex_);
  if (milestones_.empty()) milestones_.push_back(next_);
  const auto block = static_cast<size_t>(position / kBlock);
  if (next_.position > position) next_ = milestones_[block];
  if (next_.position < position && block < milestones_.size() && milestones_[block].position > next_.position) {
    next_ = milestones_[block];
  }
  for (;;) {
    const bool found = next_.position == position;
    const Place place = take(next_);
    if (next_.position % kBlock == 0 && static_cast<size_t>(next_.position / kBlock) == milestones_.size()) {
      milestones_.push_back(next_);
    }
    if (found) return place;
  }
}

}  // namespace mmoe
