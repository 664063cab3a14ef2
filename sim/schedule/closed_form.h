#pragma once
// Step time of a pipeline without playing its schedule: exact laws for equal stages, and the fast path of a search.

#include <span>

#include "sim/schedule/passes.h"
#include "sim/schedule/timeline.h"
#include "sim/units/units.h"

namespace mmoe {

// Seconds of one micro-batch through one chunk. A backward that is not split takes both backward parts.
struct ChunkSeconds {
  Seconds forward, backward_input, backward_weight;
  Seconds backward() const { return backward_input + backward_weight; }
  Seconds total() const { return forward + backward_input + backward_weight; }
  Seconds of(PassKind kind) const {
    switch (kind) {
      case PassKind::kForward:
        return forward;
      case PassKind::kBackward:
        return backward();
      case PassKind::kBackwardInput:
        return backward_input;
      case PassKind::kBackwardWeight:
        break;
    }
    return backward_weight;
  }
};

// By pass of the schedule; `chunks` [rank * v + chunk].
std::vector<Seconds> pass_seconds(const PipelinePasses& passes, std::span<const ChunkSeconds> chunks);

// Equal stages and micro-batches, transfers for nothing; `rank` is the time of all chunks of a rank together, f, b and
// w.
//   1F1B:        (m + p - 1) (f + b + w)             Narayanan et al. 2021 (arXiv:2104.04473), section 2.2.1
//   interleaved: m (f + b + w) + (p - 1) (f + b + w) / v                         the same, section 2.2.2
//   ZB-H1:       m (f + b + w) + (p - 1) (f + b - w)       Qi et al. 2023 (arXiv:2401.10241), table 2
// Exact for m a multiple of p (interleaved), and for m >= p and w <= f, b (ZB-H1). Not for ZB-V.
Seconds equal_stages_seconds(const PipelineShape& shape, const ChunkSeconds& rank);

// Uneven stages, equal micro-batches: `chunks` [rank * v + chunk]; no allocation. With many micro-batches (1F1B m > p,
// ZB-H1 m > 2 p) in O(p), or O(p^2) with overlapped transfers; with few in O(m p); interleaved, whole groups of p only,
// in O(m p v). Equal to the simulation, except for many micro-batches of ZB-H1 and of 1F1B with overlapped transfers:
// there it is the longest of the paths that closed_form.cpp names, within 1 % of the simulation for stages spread by up
// to 40 % about their mean. Not for ZB-V.
Seconds uneven_stages_seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks,
                              const Transfers& transfers);

// No such step is shorter, so that a search can pass over the O(m p v) of interleaved pipelines: for the worst rank its
// own passes, and the way of the first micro-batch down to it and of the last one's gradient up from it. O(p v). Equal
// to the step for equal stages of 1F1B and interleaved pipelines.
Seconds least_step_seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks,
                           const Transfers& transfers);

}  // namespace mmoe
