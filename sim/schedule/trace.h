#pragma once
// A pipeline's timeline as a file for chrome://tracing and Perfetto.

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "sim/schedule/passes.h"
#include "sim/schedule/timeline.h"

namespace mmoe {

// Trace Event Format, times in microseconds: a process a rank (named rank_names[r], or "rank r" when empty), in it a
// thread each for forward, backward, weight gradients, transfers out of the rank and bubbles. Events are complete ("X")
// with micro_batch and chunk as arguments; a bubble is every gap between the passes of a rank up to the end of the
// step that no blocking transfer of it fills. `transfers` are those of the timeline.
nlohmann::json chrome_trace_json(const PipelinePasses& passes, const Timeline& timeline, const Transfers& transfers,
                                 std::span<const std::string> rank_names = {});

}  // namespace mmoe
