#pragma once
// When each pass of a pipeline runs: the schedule played with the seconds of every pass.

#include <span>
#include <vector>

#include "sim/schedule/passes.h"
#include "sim/units/units.h"

namespace mmoe {

// kOverlapped: a pass's result arrives `seconds` after it ends, while its rank goes on; links do not queue.
// kBlocking: the rank that sends waits until the result has arrived, as with Megatron-Core's unoverlapped
// point-to-point calls, where in the steady state every exchange holds each of its two ranks once.
enum class TransferMode { kOverlapped, kBlocking };

struct Transfers {
  TransferMode mode = TransferMode::kOverlapped;
  std::vector<Seconds> seconds;  // [link], one way; link r joins ranks r and (r + 1) mod p; empty: none
};

struct Timeline {
  std::vector<Seconds> start, finish;  // [pass], without transfers
  Seconds total;                       // from the first start to the last finish
  std::vector<Seconds> busy;           // [rank], in passes
  std::vector<Seconds> sending;        // [rank], held by blocking transfers
  std::vector<Seconds> idle;           // [rank], total - busy - sending: the bubble
};

// One sweep over the passes; `seconds` [pass] in the order of passes.passes. Every pass starts as soon as its rank is
// free and its input has arrived.
Timeline simulate_pipeline(const PipelinePasses& passes, std::span<const Seconds> seconds, const Transfers& transfers);
// The same into a timeline whose memory is used again: several times faster over many draws.
void simulate_pipeline(const PipelinePasses& passes, std::span<const Seconds> seconds, const Transfers& transfers,
                       Timeline& timeline);

// A table [pass] from function(rank, pass).
template <class Function>
auto pass_table(const PipelinePasses& passes, Function function) {
  std::vector<decltype(function(int64_t{}, Pass{}))> table;
  table.reserve(passes.passes.size());
  for (int64_t rank = 0; rank < passes.shape.pipeline; ++rank) {
    for (const Pass& pass : passes.of_rank(rank)) table.push_back(function(rank, pass));
  }
  return table;
}

}  // namespace mmoe
