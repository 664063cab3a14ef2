#include "sim/schedule/passes.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {

namespace {

// Micro-batch and chunk of each forward of a rank, in its order: groups of micro-batches pass chunk after chunk.
// Backwards follow the same order with the chunks reversed.
std::vector<Pass> forward_order(const PipelineShape& shape) {
  const int64_t m = shape.num_micro_batches, v = shape.virtual_pipeline;
  const int64_t group = v == 1 ? m : shape.group_size();
  std::vector<Pass> order;
  order.reserve(static_cast<size_t>(m * v));
  for (int64_t first = 0; first < m; first += group) {
    for (int64_t chunk = 0; chunk < v; ++chunk) {
      for (int64_t j = first; j < std::min(first + group, m); ++j) {
        order.push_back({PassKind::kForward, static_cast<int32_t>(j), static_cast<int32_t>(chunk)});
      }
    }
  }
  return order;
}

// Warm-up forwards, then one forward and one backward in turn, then the remaining backwards. Split backwards (ZB-H1):
// the weight gradients lag `rank` micro-batches, which evens out the number in flight and fills the end.
std::vector<Pass> one_forward_one_backward(const PipelineShape& shape, const std::vector<Pass>& order, int64_t rank) {
  const int64_t total = static_cast<int64_t>(order.size()), warm_up = warm_up_passes(shape, rank);
  const int64_t lag = shape.splits_backward() ? std::min(rank, total) : 0;
  std::vector<Pass> passes;
  passes.reserve(static_cast<size_t>((shape.splits_backward() ? 3 : 2) * total));
  const auto backward = [&](PassKind kind, int64_t i) {
    const Pass& pass = order[i];
    const auto last_chunk = static_cast<int32_t>(shape.virtual_pipeline - 1);
    passes.push_back({kind, pass.micro_batch, last_chunk - pass.chunk});
  };
  for (int64_t i = 0; i < warm_up; ++i) passes.push_back(order[i]);
  for (int64_t i = 0; i < total; ++i) {
    if (i + warm_up < total) passes.push_back(order[i + warm_up]);
    backward(shape.splits_backward() ? PassKind::kBackwardInput : PassKind::kBackward, i);
    if (shape.splits_backward() && i >= lag) backward(PassKind::kBackwardWeight, i - lag);
  }
  for (int64_t i = total - lag; i < total; ++i) backward(PassKind::kBackwardWeight, i);
  return passes;
}

// ZB-V of one rank: 2 p chunks in flight on every rank. The pattern needs 2 p - 1 micro-batches; with fewer, those that
// do not exist are left out of it.
std::vector<Pass> v_shaped_zero_bubble(const PipelineShape& shape, int64_t rank) {
  const int64_t p = shape.pipeline, m = shape.num_micro_batches, padded = std::max(m, 2 * p - 1);
  std::vector<Pass> passes;
  passes.reserve(static_cast<size_t>(6 * m));
  int64_t forwards[2] = {}, inputs[2] = {}, weights[2] = {};
  const auto add = [&](PassKind kind, int64_t(&counts)[2], int32_t chunk) {
    const int64_t j = counts[chunk]++;
    if (j < m) passes.push_back({kind, static_cast<int32_t>(j), chunk});
  };
  const auto forward = [&](int32_t chunk) { add(PassKind::kForward, forwards, chunk); };
  const auto input = [&](int32_t chunk) { add(PassKind::kBackwardInput, inputs, chunk); };
  const auto weight = [&](int32_t chunk) { add(PassKind::kBackwardWeight, weights, chunk); };

  for (int64_t i = 0; i < 2 * (p - rank) - 1; ++i) forward(0);
  for (int64_t i = 0; i < rank; ++i) forward(1), forward(0);
  for (int64_t i = 0; i < p - rank; ++i) forward(1), input(1), weight(1);
  while (forwards[1] < padded) {
    if (forwards[0] < padded) forward(0);
    input(0), weight(0);
    forward(1), input(1), weight(1);
  }
  for (int64_t i = 0; i < rank; ++i) input(0), input(1);
  for (int64_t i = 0; i < p - rank; ++i) input(0), weight(0);
  while (weights[1] < padded) weight(1);
  while (weights[0] < padded) weight(0);
  return passes;
}

// Positions of the passes of every (rank, chunk, micro-batch); -1 until met.
struct Positions {
  std::vector<int32_t> forward, backward, weight;  // [kept_index]; `backward` also holds the gradient of the input
  explicit Positions(size_t size) : forward(size, -1), backward(size, -1), weight(size, -1) {}
  std::vector<int32_t>& of(PassKind kind) {
    if (kind == PassKind::kForward) return forward;
    return kind == PassKind::kBackwardWeight ? weight : backward;
  }
};

Positions find_positions(const PipelinePasses& all) {
  const PipelineShape& shape = all.shape;
  Positions positions(static_cast<size_t>(shape.num_stages() * shape.num_micro_batches));
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    for (int32_t i = all.rank_begin[rank]; i < all.rank_begin[rank + 1]; ++i) {
      const Pass& pass = all.passes[i];
      const int64_t kept = all.kept_index(rank, pass.chunk, pass.micro_batch);
      MMOE_CHECK((pass.kind == PassKind::kBackwardInput || pass.kind == PassKind::kBackwardWeight) ==
                     shape.splits_backward() ||
                 pass.kind == PassKind::kForward)
          << "backwards are split in zero-bubble schedules only";
      int32_t& position = positions.of(pass.kind)[kept];
      MMOE_CHECK(position < 0) << "rank " << rank << " runs a pass twice";
      position = i;
    }
  }
  for (size_t i = 0; i < positions.forward.size(); ++i) {
    MMOE_CHECK(positions.forward[i] >= 0 && positions.forward[i] < positions.backward[i]) << "backward before forward";
    MMOE_CHECK(!shape.splits_backward() || positions.backward[i] < positions.weight[i]) << "weight before input";
  }
  return positions;
}

// Fills all.sweep from its passes: each pass follows its predecessor on the rank and the pass that sends its input.
void order_sweep(PipelinePasses& all) {
  const PipelineShape& shape = all.shape;
  const Positions positions = find_positions(all);
  const size_t size = all.passes.size();
  std::vector<PipelinePasses::Step> steps(size);
  std::vector<int32_t> receiver(size, -1);  // of what the pass sends; at most one
  std::vector<uint8_t> missing(size, 0);    // predecessors that have not been swept
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    for (int32_t i = all.rank_begin[rank]; i < all.rank_begin[rank + 1]; ++i) {
      const Pass& pass = all.passes[i];
      const bool forward = pass.kind == PassKind::kForward;
      const int64_t stage = shape.stage(rank, pass.chunk), from = forward ? stage - 1 : stage + 1;
      steps[i] = {i, -1, static_cast<int32_t>(rank), 0};
      missing[i] = i > all.rank_begin[rank];
      if (pass.kind == PassKind::kBackwardWeight || from < 0 || from == shape.num_stages()) continue;
      const int64_t kept = all.kept_index(shape.rank_of(from), shape.chunk_of(from), pass.micro_batch);
      const int32_t source = (forward ? positions.forward : positions.backward)[kept];
      if (shape.rank_of(from) == rank) {
        MMOE_CHECK(source < i) << "rank " << rank << " waits for itself";
        continue;  // the order of the rank is enough
      }
      const int64_t lower = std::min(stage, from);
      const int64_t link =
          shape.is_v_shaped() && lower >= shape.pipeline ? 2 * shape.pipeline - 2 - lower : lower % shape.pipeline;
      steps[i].source = source;
      steps[i].link = static_cast<int32_t>(link);
      receiver[source] = i;
      ++missing[i];
    }
  }
  std::vector<int32_t> ready;  // first in, first out: neighbours in the sweep are of different ranks
  ready.reserve(size);
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    const int32_t first = all.rank_begin[rank];
    if (first < all.rank_begin[rank + 1] && missing[first] == 0) ready.push_back(first);
  }
  all.sweep.reserve(size);
  all.swept.resize(size);
  for (size_t next = 0; next < ready.size(); ++next) {
    const int32_t i = ready[next];
    all.sweep.push_back(steps[i]);
    all.swept[i] = static_cast<int32_t>(next);
    if (steps[i].source >= 0) all.sweep.back().source = all.swept[steps[i].source];
    const auto release = [&](int32_t follower) {
      if (--missing[follower] == 0) ready.push_back(follower);
    };
    if (i + 1 < all.rank_begin[steps[i].rank + 1]) release(i + 1);
    if (receiver[i] >= 0) release(receiver[i]);
  }
  MMOE_CHECK(all.sweep.size() == size) << "deadlock: " << size - all.sweep.size() << " passes wait for each other";
}

}  // namespace

bool PipelineShape::is_valid() const {
  const int64_t p = pipeline, v = virtual_pipeline, m = num_micro_batches;
  if (p < 1 || v < 1 || m < 1 || group < 0 || 3 * p * v * m > std::numeric_limits<int32_t>::max()) return false;
  switch (schedule) {
    case PipelineSchedule::kOneForwardOneBackward:
      return v == 1;
    case PipelineSchedule::kInterleaved: {
      const int64_t last = m % group_size();
      return v > 1 && p > 1 && group_size() >= p && group_size() <= m && (last == 0 || last >= p);
    }
    case PipelineSchedule::kZeroBubble:
      return v <= 2;
  }
  return false;
}

int64_t warm_up_passes(const PipelineShape& shape, int64_t rank) {
  const int64_t behind = shape.pipeline - rank - 1, v = shape.virtual_pipeline;
  const int64_t wanted =
      shape.schedule == PipelineSchedule::kInterleaved ? 2 * behind + (v - 1) * shape.group_size() : behind;
  return std::min(wanted, shape.num_micro_batches * v);
}

PipelinePasses link_passes(const PipelineShape& shape, const std::vector<std::vector<Pass>>& by_rank) {
  MMOE_CHECK(shape.is_valid()) << "no such pipeline";
  MMOE_CHECK(static_cast<int64_t>(by_rank.size()) == shape.pipeline) << "one list a rank";
  PipelinePasses all;
  all.shape = shape;
  all.passes.reserve(by_rank.size() * by_rank[0].size());
  all.rank_begin.push_back(0);
  for (const std::vector<Pass>& passes : by_rank) {
    all.passes.insert(all.passes.end(), passes.begin(), passes.end());
    all.rank_begin.push_back(static_cast<int32_t>(all.passes.size()));
  }
  order_sweep(all);
  return all;
}

PipelinePasses pipeline_passes(const PipelineShape& shape) {
  MMOE_CHECK(shape.is_valid()) << "no such pipeline";
  const std::vector<Pass> order = forward_order(shape);
  std::vector<std::vector<Pass>> by_rank;
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    by_rank.push_back(shape.is_v_shaped() ? v_shaped_zero_bubble(shape, rank)
                                          : one_forward_one_backward(shape, order, rank));
  }
  return link_passes(shape, by_rank);
}

}  // namespace mmoe
