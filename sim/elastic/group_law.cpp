#include "sim/elastic/group_law.h"

#include <algorithm>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {

GroupLaw::GroupLaw(std::shared_ptr<const SumCounts> counts, const GroupBound& bound)
    : counts_(std::move(counts)), bound_(bound) {
  const int64_t largest = counts_->largest_sum(bound_.size());
  MMOE_CHECK(bound_.sum >= 0 && bound_.sum <= largest) << bound_.sum << " of " << largest;
  conditioned_ = largest > 0 && (bound_.kind == SumBound::kExact || bound_.sum < largest);
}

double GroupLaw::log_probability() const {
  if (!conditioned_) return 0;
  const double all = log(counts_->count(SumBound::kAtMost, 1, counts_->largest_sum(1)));
  return std::min(0.0, log(counts_->count(bound_.kind, bound_.size(), bound_.sum)) - bound_.size() * all);
}

DiscreteLaw GroupLaw::sum() const {
  if (bound_.kind == SumBound::kExact) return DiscreteLaw::certain(bound_.sum);
  return DiscreteLaw(0, rest(bound_.size(), 0));
}

std::vector<double> GroupLaw::marginal() const {
  std::vector<double> probabilities(static_cast<size_t>(num_choices()));
  next_draw(bound_.size(), 0, probabilities.data());
  return probabilities;
}

int64_t GroupLaw::largest_drawn(int num_left) const {
  return std::min(bound_.sum, counts_->largest_sum(bound_.size() - num_left));
}

void GroupLaw::next_draw(int num_left, int64_t r, double* probabilities) const {
  const ScaledCount total = conditioned_ ? counts_->count(bound_.kind, num_left, bound_.sum - r)
                                         : counts_->count(SumBound::kAtMost, 1, counts_->largest_sum(1));
  if (total.is_zero()) {
    std::fill(probabilities, probabilities + num_choices(), 0.0);
    return;
  }
  for (int j = 0; j < num_choices(); ++j) {
    ScaledCount weight = counts_->weights()[static_cast<size_t>(j)];
    if (conditioned_) weight = weight * counts_->count(bound_.kind, num_left - 1, bound_.sum - r - j);
    probabilities[j] = ratio(weight, total);
  }
}

std::vector<double> GroupLaw::rest(int num_left, int64_t r) const {
  const int64_t left = bound_.sum - r;
  const int64_t largest = std::min(left, counts_->largest_sum(num_left));
  std::vector<double> probabilities(static_cast<size_t>(std::max<int64_t>(largest, 0)) + 1);
  const ScaledCount total = counts_->count(bound_.kind, num_left, left);
  if (total.is_zero()) return probabilities;
  for (int64_t sum = bound_.kind == SumBound::kExact ? left : 0; sum <= largest; ++sum) {
    probabilities[static_cast<size_t>(sum)] = ratio(counts_->count(SumBound::kExact, num_left, sum), total);
  }
  return probabilities;
}

}  // namespace mmoe
