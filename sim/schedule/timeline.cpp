#include "sim/schedule/timeline.h"

#include <algorithm>

#include "sim/units/errors.h"

namespace mmoe {

void simulate_pipeline(const PipelinePasses& passes, std::span<const Seconds> seconds, const Transfers& transfers,
                       Timeline& timeline) {
  const auto ranks = static_cast<size_t>(passes.shape.pipeline);
  const size_t size = passes.passes.size();
  MMOE_CHECK(seconds.size() == size) << "one duration a pass";
  MMOE_CHECK(transfers.seconds.empty() || transfers.seconds.size() == ranks) << "one transfer time a link";
  const std::vector<Seconds> link = transfers.seconds.empty() ? std::vector<Seconds>(ranks) : transfers.seconds;

  timeline.start.resize(size), timeline.finish.resize(size);
  timeline.busy.resize(ranks), timeline.sending.resize(ranks), timeline.idle.resize(ranks);
  const bool blocks = transfers.mode == TransferMode::kBlocking;
  // In the order of the sweep, where neighbours in time are neighbours in memory: like passes of all ranks lie a power
  // of two apart in tables [pass], which is several times slower. Plain doubles, and no branch on the times.
  std::vector<double> begun(size), ended(size + 1), hold(blocks ? size : 0), free(ranks), busy(ranks), sending(ranks);
  const size_t nothing = size;  // ended at 0
  if (blocks) {
    for (const PipelinePasses::Step& step : passes.sweep) {
      if (step.source >= 0) hold[step.source] = link[step.link].value;
    }
  }
  for (size_t i = 0; i < size; ++i) {
    const PipelinePasses::Step& step = passes.sweep[i];
    const bool waits = step.source >= 0;
    const double arrival = ended[waits ? step.source : nothing] + (waits ? link[step.link].value : 0);
    const double start = arrival > free[step.rank] ? arrival : free[step.rank];
    const double duration = seconds[step.pass].value, finish = start + duration;
    begun[i] = start;
    ended[i] = finish;
    busy[step.rank] += duration;
    free[step.rank] = finish;
    if (blocks) free[step.rank] += hold[i], sending[step.rank] += hold[i];
  }
  for (size_t pass = 0; pass < size; ++pass) {
    timeline.start[pass] = Seconds{begun[passes.swept[pass]]};
    timeline.finish[pass] = Seconds{ended[passes.swept[pass]]};
  }
  timeline.total = {};
  for (size_t r = 0; r < ranks; ++r) {
    timeline.busy[r] = Seconds{busy[r]};
    timeline.sending[r] = Seconds{sending[r]};
    timeline.total = std::max(timeline.total, timeline.finish[passes.rank_begin[r + 1] - 1]);
  }
  for (size_t r = 0; r < ranks; ++r) timeline.idle[r] = timeline.total - timeline.busy[r] - timeline.sending[r];
}

Timeline simulate_pipeline(const PipelinePasses& passes, std::span<const Seconds> seconds, const Transfers& transfers) {
  Timeline timeline;
  simulate_pipeline(passes, seconds, transfers, timeline);
  return timeline;
}

}  // namespace mmoe
