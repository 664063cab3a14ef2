#include <algorithm>

#include "kernels/dispatch/dispatch.h"
#include "kernels/parallel/parallel.h"
#include "kernels/workspace/workspace.h"

namespace mmoe::kernels {
namespace {

// The tokens are split into fixed ranges; each is counted, then placed behind the ranges before it: stable, in
// parallel.
constexpr int64_t kMaxRanges = 32;
constexpr int64_t kPairsPerRange = 2048;

int64_t num_ranges(const Dispatch& a) {
  return std::clamp<int64_t>(a.num_tokens * a.top_k / kPairsPerRange, 1, kMaxRanges);
}

}  // namespace

size_t dispatch_cpu_workspace_size(const Dispatch& args) {
  return static_cast<size_t>(num_ranges(args) * args.num_experts) * sizeof(int64_t);
}

int64_t dispatch_cpu(const Dispatch& a) {
  const int64_t E = a.num_experts, ranges = num_ranges(a);
  const Workspace workspace(a.workspace, dispatch_cpu_workspace_size(a));
  int64_t* next = static_cast<int64_t*>(workspace.data());  // [ranges, E]: counts, then the next row to hand out
  const auto valid = [&](int64_t e) { return e >= 0 && e < E; };

  parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      int64_t* count = next + i * E;
      std::fill(count, count + E, 0);
      const int64_t end = (i + 1) * a.num_tokens / ranges * a.top_k;
      for (int64_t pair = i * a.num_tokens / ranges * a.top_k; pair < end; ++pair) {
        if (valid(a.indices[pair])) ++count[a.indices[pair]];
      }
    }
  });

  int64_t row = 0;
  for (int64_t e = 0; e < E; ++e) {
    const int64_t begin = row;
    a.expert_offsets[e] = begin;
    for (int64_t i = 0; i < ranges; ++i) {
      const int64_t count = next[i * E + e];
      next[i * E + e] = row;
      row += count;
    }
    a.counts[e] = row - begin;
    const int64_t end = (row + a.alignment - 1) / a.alignment * a.alignment;
    std::fill(a.token_of_row + row, a.token_of_row + end, -1);
    std::fill(a.pair_of_row + row, a.pair_of_row + end, -1);
    row = end;
  }
  a.expert_offsets[E] = row;
  std::fill(a.token_of_row + row, a.token_of_row + std::max(row, a.row_capacity), -1);
  std::fill(a.pair_of_row + row, a.pair_of_row + std::max(row, a.row_capacity), -1);

  parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      int64_t* place = next + i * E;
      for (int64_t token = i * a.num_tokens / ranges; token < (i + 1) * a.num_tokens / ranges; ++token) {
        for (int64_t pair = token * a.top_k; pair < (token + 1) * a.top_k; ++pair) {
          const int64_t e = a.indices[pair];
          const int64_t r = valid(e) ? place[e]++ : -1;
          a.row_of_pair[pair] = static_cast<int32_t>(r);
          if (r < 0) continue;
          a.token_of_row[r] = static_cast<int32_t>(token);
          a.pair_of_row[r] = static_cast<int32_t>(pair);
        }
      }
    }
  });
  return row;
}

}  // namespace mmoe::kernels
