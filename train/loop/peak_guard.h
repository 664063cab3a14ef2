#pragma once
// Watches whether a run keeps the memory that its activation budget was tuned for.

#include <cstdint>
#include <optional>
#include <string>

#include "sim/units/units.h"

namespace mmoe {

// Compares each step's peak with the one predicted for its draws. The largest ratio so far, applied to the worst draw
// that the budget allows, says what is still to come: a step that draws little shows as early as the worst one that
// predictions are too low.
class PeakGuard {
 public:
  // `predicted_worst`: of the worst draw; `limit`: what the device can hold. Both above 0.
  PeakGuard(Bytes predicted_worst, Bytes limit);

  // Of a step after the first of this process, which allocates what stays. Says when the worst draw comes to pass the
  // limit, and again each time that it has grown by 1 %.
  std::optional<std::string> observe(int64_t step, Bytes measured, Bytes predicted);

  double ratio() const { return ratio_; }  // largest measured / predicted, at least 1
  Bytes projected_worst() const { return predicted_worst_ * ratio_; }
  bool passes_limit() const { return projected_worst() > limit_; }
  // After a change of budget; the ratio stays.
  void set_predicted_worst(Bytes predicted_worst);

 private:
  Bytes predicted_worst_, limit_;
  double ratio_ = 1;
  Bytes warned_;  // projected_worst() at the last warning
};

}  // namespace mmoe
