#include "sim/schedule/closed_form.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "sim/units/errors.h"

namespace mmoe {

namespace {

constexpr int64_t kMaxRanks = 512;  // for arrays on the stack

// Times as the critical path meets them: a blocking transfer lengthens the pass that sends, an overlapped one comes
// between passes.
class PathTimes {
 public:
  PathTimes(const PipelineShape& shape, std::span<const ChunkSeconds> chunks, const Transfers& transfers)
      : shape_(shape), chunks_(chunks), transfers_(transfers), free_(transfers.seconds.empty() || shape.pipeline == 1) {
    MMOE_CHECK(shape.pipeline <= kMaxRanks && static_cast<int64_t>(chunks.size()) == shape.num_stages()) << "chunks";
  }
  bool overlaps() const { return !free_ && transfers_.mode == TransferMode::kOverlapped; }
  double link(int64_t rank) const { return overlaps() ? transfers_.seconds[rank].value : 0; }
  double forward(int64_t rank, int64_t chunk) const {
    if (shape_.is_v_shaped()) return at(rank, chunk).forward.value + (chunk == 0 ? hold_down(rank) : hold_up(rank));
    const bool sends = rank < shape_.pipeline - 1 || chunk < shape_.virtual_pipeline - 1;
    return at(rank, chunk).forward.value + (sends ? hold(rank) : 0);
  }
  // The part that the rank before waits for.
  double backward(int64_t rank, int64_t chunk) const {
    const bool sends = rank > 0 || chunk > 0;
    const Seconds pass = shape_.splits_backward() ? at(rank, chunk).backward_input : at(rank, chunk).backward();
    if (shape_.is_v_shaped()) return pass.value + (chunk == 0 ? hold_up(rank) : hold_down(rank));
    return pass.value + (sends ? hold(rank > 0 ? rank - 1 : shape_.pipeline - 1) : 0);
  }
  double weight(int64_t rank, int64_t chunk = 0) const {
    return shape_.splits_backward() ? at(rank, chunk).backward_weight.value : 0;
  }

 private:
  const ChunkSeconds& at(int64_t rank, int64_t chunk) const { return chunks_[rank * shape_.virtual_pipeline + chunk]; }
  double hold_down(int64_t rank) const { return rank < shape_.pipeline - 1 ? hold(rank) : 0; }
  double hold_up(int64_t rank) const { return rank > 0 ? hold(rank - 1) : 0; }
  double hold(int64_t link) const { return free_ || overlaps() ? 0 : transfers_.seconds[link].value; }
  const PipelineShape& shape_;
  std::span<const ChunkSeconds> chunks_;
  const Transfers& transfers_;
  bool free_;
};

struct RankSeconds {
  double forward, backward, weight, link;
  double work() const { return forward + backward + weight; }
};

// What a path gathers over the ranks 0 .. r.
struct Prefix {
  double forwards, backwards, links;         // sums; of links, those before rank r
  double slowest_forward, slowest_backward;  // maxima; backward with its weight gradient
  double tail;                               // weight gradients left at the end, over the way further up
  double begin;  // longest way from the first forward to the first backward that turns at rank r, on to rank 0
  double end;    // the same backwards in time
};

// What a critical path gains, against waiting `slots` micro-batches at the first of `ranks`, by going down some ranks
// and back between: with overlapped transfers 1F1B waits for each of them. A loop over L ranks takes L slots; the best
// loop is repeated, what remains is filled with shorter ones.
double detour_seconds(std::span<const RankSeconds> ranks, int64_t slots) {
  double loop = ranks[0].weight, best = 0;
  int64_t best_length = 1;
  const double stay = ranks[0].work();
  const int64_t longest = std::min(static_cast<int64_t>(ranks.size()), slots);
  for (int64_t length = 1; length <= longest; ++length) {
    const RankSeconds& rank = ranks[length - 1];
    loop += rank.forward + rank.backward;
    const double gain = loop - static_cast<double>(length) * stay;
    if (gain * static_cast<double>(best_length) > best * static_cast<double>(length)) best = gain, best_length = length;
    loop += 2 * rank.link;
  }
  if (best == 0) return 0;
  return best * static_cast<double>(slots / best_length) + detour_seconds(ranks, slots % best_length);
}

// The longest path through the passes of 1F1B or ZB-H1 with m > p. Count a rank's time in slots, one a micro-batch:
// forward i of rank r lies in slot i - (p - r - 1), backward i in slot i. Going down a rank takes a slot, turning from
// forward to backward and going up take none, and the next forward of the same rank takes one. So a path from the first
// forward (slot 1 - p) to the last backward (slot m - 1) goes down, turns, waits at the rank s that gains most in a
// slot, and goes down, turns and up again; in the warm-up it may also wait between two forwards, and at the end between
// two backwards. The step takes the longest over s and over the ranks where the path turns.
double longest_path_seconds(const PipelineShape& shape, const PathTimes& times) {
  const int64_t p = shape.pipeline, m = shape.num_micro_batches;
  std::array<RankSeconds, kMaxRanks> ranks;
  std::array<Prefix, kMaxRanks> prefixes;
  Prefix sum{};
  for (int64_t r = 0; r < p; ++r) {
    const RankSeconds rank{times.forward(r, 0), times.backward(r, 0), times.weight(r), times.link(r)};
    ranks[r] = rank;
    sum.tail = std::max(sum.tail, static_cast<double>(r + 1) * rank.weight - sum.backwards);
    sum.forwards += rank.forward;
    sum.backwards += rank.backward;
    sum.slowest_forward = std::max(sum.slowest_forward, rank.forward);
    sum.slowest_backward = std::max(sum.slowest_backward, rank.backward + rank.weight);
    const double way = sum.forwards + sum.backwards + 2 * sum.links, waits = static_cast<double>(p - 1 - r);
    sum.begin = way + waits * sum.slowest_forward;
    double ending = waits * sum.slowest_backward;
    prefixes[r] = sum;
    for (int64_t at = 0; sum.tail > 0 && at <= r; ++at) {  // waits at a rank and ends there or further up
      const double waited = waits * (ranks[at].backward + ranks[at].weight) + prefixes[at].tail;
      ending = at == 0 ? waited : std::max(ending, waited);
    }
    prefixes[r].end = way + ending;
    sum.links += rank.link;
  }

  double longest = 0, begin = 0, end = 0;
  for (int64_t s = p - 1; s >= 0; --s) {
    const RankSeconds& rank = ranks[s];
    const Prefix& to = prefixes[s];
    begin = std::max(begin, to.begin);
    end = std::max(end, to.end);
    const int64_t slots = m - 1 - (p - 1 - s);        // from its first backward to its last forward
    const double first = static_cast<double>(p - s);  // its passes before and after these
    const double before = begin - to.backwards - to.links - first * rank.forward;
    const double after = end - to.forwards - to.links - first * rank.backward - static_cast<double>(p) * rank.weight;
    double path = static_cast<double>(m) * rank.work() + before + std::max(after, 0.0);
    if (times.overlaps()) path += detour_seconds(std::span(ranks).subspan(s, p - s), slots - 1);
    longest = std::max(longest, path);
  }
  return longest;
}

// 1F1B or ZB-H1 as a systolic array. In beat t rank r runs forward (t - r) / 2 and then backward (t - 2 (p - 1) + r) /
// 2, as far as they exist: what they need from neighbours was sent in beat t - 1. Exact; O(m p).
double beat_seconds(const PipelineShape& shape, const PathTimes& times) {
  const int64_t p = shape.pipeline, m = shape.num_micro_batches, turn = 2 * (p - 1);
  std::array<double, kMaxRanks + 1> free, forward_in, backward_in;  // [rank]; arrival of the next input
  std::array<RankSeconds, kMaxRanks> ranks;
  for (int64_t r = 0; r <= p; ++r) free[r] = forward_in[r] = backward_in[r] = 0;
  for (int64_t r = 0; r < p; ++r)
    ranks[r] = {times.forward(r, 0), times.backward(r, 0), times.weight(r), times.link(r)};
  for (int64_t t = 0; t <= 2 * (m - 1) + turn; ++t) {
    for (int64_t r = t % 2; r < p; r += 2) {
      if (const int64_t i = (t - r) / 2; t >= r && i < m) {
        free[r] = std::max(free[r], forward_in[r]) + ranks[r].forward;
        forward_in[r + 1] = free[r] + ranks[r].link;
      }
      if (const int64_t j = (t - turn + r) / 2; t + r >= turn && j < m) {
        free[r] = std::max(free[r], backward_in[r + 1]) + ranks[r].backward;
        backward_in[r] = free[r] + (r > 0 ? ranks[r - 1].link : 0);
        if (j >= r) free[r] += ranks[r].weight;
      }
    }
  }
  double last = 0;
  for (int64_t r = 0; r < p; ++r) {
    last = std::max(last, free[r] + static_cast<double>(std::min(r, m)) * ranks[r].weight);
  }
  return last;
}

// The interleaved schedule as a systolic array. In beat t rank r runs forward t - r and then backward
// t - (v p - 1) - (p - 1 - r) of its order, as far as they exist: what they need from neighbours, the wrap-around
// included, was sent in beat t - 1. Exact for whole groups of p micro-batches.
double interleaved_seconds(const PipelineShape& shape, const PathTimes& times) {
  const int64_t p = shape.pipeline, v = shape.virtual_pipeline, total = shape.num_micro_batches * v, lag = v * p - 1;
  // [rank] now, and what arrives from the rank before (forward) or behind (backward)
  std::array<double, kMaxRanks> free, forward, backward, link;
  std::array<double, kMaxRanks + 1> forward_in, backward_in;
  std::array<double, kMaxRanks + 1> arrivals;
  for (int64_t r = 0; r < p; ++r) free[r] = forward_in[r] = backward_in[r] = 0, link[r] = times.link(r);
  backward_in[p] = forward_in[p] = 0;
  const auto chunk_of = [&](int64_t i) { return i / p % v; };
  for (int64_t t = 0; t < total + lag + p - 1; ++t) {
    // Forwards t - r in 0 .. total - 1. One rank a beat goes on to its next chunk.
    if (const int64_t r = t % p; t - r < total) forward[r] = times.forward(r, chunk_of(t - r));
    if (t < total && chunk_of(t) == 0) forward_in[0] = 0;
    const int64_t first = std::max<int64_t>(0, t - total + 1), last = std::min(p - 1, t);
    for (int64_t r = first; r <= last; ++r) {
      free[r] = std::max(free[r], forward_in[r]) + forward[r];
      arrivals[r + 1] = free[r] + link[r];
    }
    for (int64_t r = first; r <= last; ++r) forward_in[r + 1] = arrivals[r + 1];
    forward_in[0] = forward_in[p];
    // Backwards u - (p - 1 - r).
    const int64_t u = t - lag;
    if (u < 0) continue;
    if (const int64_t r = p - 1 - u % p; u - (p - 1 - r) < total) {
      backward[r] = times.backward(r, v - 1 - chunk_of(u - (p - 1 - r)));
    }
    if (u < total && chunk_of(u) == 0) backward_in[p] = 0;
    const int64_t top = p - 1 - std::min(p - 1, u), bottom = p - 1 - std::max<int64_t>(0, u - total + 1);
    for (int64_t r = top; r <= bottom; ++r) {
      free[r] = std::max(free[r], backward_in[r + 1]) + backward[r];
      arrivals[r] = free[r] + (r > 0 ? link[r - 1] : link[p - 1]);
    }
    for (int64_t r = top; r <= bottom; ++r) backward_in[r] = arrivals[r];
    backward_in[p] = backward_in[0];
  }
  return *std::max_element(free.begin(), free.begin() + p);
}

}  // namespace

std::vector<Seconds> pass_seconds(const PipelinePasses& passes, std::span<const ChunkSeconds> chunks) {
  return pass_table(passes, [&](int64_t rank, const Pass& pass) {
    return chunks[static_cast<std::size_t>(rank * passes.shape.virtual_pipeline + pass.chunk)].of(pass.kind);
  });
}

Seconds equal_stages_seconds(const PipelineShape& shape, const ChunkSeconds& rank) {
  const double m = static_cast<double>(shape.num_micro_batches), behind = static_cast<double>(shape.pipeline - 1);
  switch (shape.schedule) {
    case PipelineSchedule::kOneForwardOneBackward:
    case PipelineSchedule::kInterleaved:
      return m * rank.total() + behind * rank.total() / static_cast<double>(shape.virtual_pipeline);
    case PipelineSchedule::kZeroBubble:
      MMOE_CHECK(!shape.is_v_shaped()) << "ZB-V has no closed form";
      return m * rank.total() + behind * (rank.forward + rank.backward_input - rank.backward_weight);
  }
  return {};
}

Seconds uneven_stages_seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks,
                              const Transfers& transfers) {
  MMOE_CHECK(!shape.is_v_shaped()) << "ZB-V has no fast path";
  const PathTimes times(shape, chunks, transfers);
  if (shape.schedule != PipelineSchedule::kInterleaved) {
    const int64_t few = shape.splits_backward() ? 2 * shape.pipeline : shape.pipeline;
    return Seconds{shape.num_micro_batches > few ? longest_path_seconds(shape, times) : beat_seconds(shape, times)};
  }
  MMOE_CHECK(shape.group_size() == shape.pipeline && shape.num_micro_batches % shape.pipeline == 0)
      << "groups of another size than the pipeline: simulate";
  return Seconds{interleaved_seconds(shape, times)};
}

Seconds least_step_seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks,
                           const Transfers& transfers) {
  const PathTimes times(shape, chunks, transfers);
  const double m = static_cast<double>(shape.num_micro_batches);
  double least = 0, way = 0;
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    double work = 0;
    for (int64_t chunk = 0; chunk < shape.virtual_pipeline; ++chunk) {
      work += times.forward(rank, chunk) + times.backward(rank, chunk) + times.weight(rank, chunk);
    }
    least = std::max(least, m * work + way);
    way += times.forward(rank, 0) + times.link(rank);
    // With split backwards the rank may end after its gradient has gone up.
    if (!shape.splits_backward()) way += times.backward(rank, 0) + times.link(rank);
  }
  return Seconds{least};
}

}  // namespace mmoe
