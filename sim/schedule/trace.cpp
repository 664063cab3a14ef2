#include "sim/schedule/trace.h"

#include <algorithm>
#include <array>
#include <vector>

#include "sim/units/errors.h"

namespace mmoe {

namespace {

enum Track { kForwardTrack, kBackwardTrack, kWeightTrack, kTransferTrack, kBubbleTrack };
constexpr std::array<const char*, 5> kTrackNames = {"forward", "backward", "weight", "transfer", "bubble"};

Track track_of(PassKind kind) {
  if (kind == PassKind::kForward) return kForwardTrack;
  return kind == PassKind::kBackwardWeight ? kWeightTrack : kBackwardTrack;
}

nlohmann::json metadata(const char* what, int64_t rank, int track, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", track}, {"args", {{"name", name}}}};
}

nlohmann::json event(const std::string& name, int64_t rank, Track track, Seconds start, Seconds duration) {
  return {{"ph", "X"},
          {"name", name},
          {"cat", kTrackNames[track]},
          {"pid", rank},
          {"tid", track},
          {"ts", start.value * 1e6},
          {"dur", duration.value * 1e6}};
}

}  // namespace

nlohmann::json chrome_trace_json(const PipelinePasses& passes, const Timeline& timeline, const Transfers& transfers,
                                 std::span<const std::string> rank_names) {
  const int64_t p = passes.shape.pipeline;
  MMOE_CHECK(rank_names.empty() || static_cast<int64_t>(rank_names.size()) == p) << "one name a rank";
  std::vector<Seconds> transfer(passes.passes.size());  // [pass], of its result to another rank
  if (!transfers.seconds.empty()) {
    for (const PipelinePasses::Step& step : passes.sweep) {
      if (step.source >= 0) transfer[passes.sweep[step.source].pass] = transfers.seconds[step.link];
    }
  }
  nlohmann::json events = nlohmann::json::array();
  for (int64_t rank = 0; rank < p; ++rank) {
    const std::string name = rank_names.empty() ? "rank " + std::to_string(rank) : rank_names[rank];
    events.push_back(metadata("process_name", rank, 0, name));
    for (size_t track = 0; track < kTrackNames.size(); ++track) {
      events.push_back(metadata("thread_name", rank, static_cast<int>(track), kTrackNames[track]));
    }
    Seconds free;
    const auto bubble_until = [&](Seconds end) {
      if (end > free) events.push_back(event("bubble", rank, kBubbleTrack, free, end - free));
    };
    for (int32_t i = passes.rank_begin[rank]; i < passes.rank_begin[rank + 1]; ++i) {
      const Pass& pass = passes.passes[i];
      const Track track = track_of(pass.kind);
      const nlohmann::json arguments{{"micro_batch", pass.micro_batch}, {"chunk", pass.chunk}};
      const std::string label = std::string(kTrackNames[track]) + " " + std::to_string(pass.micro_batch);
      bubble_until(timeline.start[i]);
      free = timeline.finish[i];
      events.push_back(event(label, rank, track, timeline.start[i], timeline.finish[i] - timeline.start[i]));
      events.back()["args"] = arguments;
      if (transfer[i] > Seconds{}) {
        events.push_back(event("send " + label, rank, kTransferTrack, free, transfer[i]));
        events.back()["args"] = arguments;
        if (transfers.mode == TransferMode::kBlocking) free += transfer[i];
      }
    }
    bubble_until(timeline.total);
  }
  return {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
}

}  // namespace mmoe
