#pragma once
// A recorded or predicted sequence of allocations through the model of the caching allocator.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "sim/allocator/caching_allocator_model.h"

namespace mmoe {

// bytes > 0 allocates tensor `id`, kFree frees it. Ids are small numbers, free to be used again once freed.
struct AllocationEvent {
  static constexpr int64_t kFree = -1;

  int64_t bytes = kFree;
  int32_t id = 0;
  int32_t stream = 0;  // read when allocating
};

struct ReplayPeaks {
  int64_t allocated_bytes = 0;
  int64_t reserved_bytes = 0;
  int64_t inactive_split_bytes = 0;  // at the end
  int64_t num_segments = 0;          // at the end
  int64_t num_cache_flushes = 0;
  std::optional<size_t> out_of_memory_event;  // the first request that found no room; the replay stops there

  // Peak reserved over peak allocated, >= 1 (0 without allocations).
  double fragmentation() const;
};

// Peaks count from event `first_counted` on: with one step before it they are those of the steady state.
ReplayPeaks replay(const std::vector<AllocationEvent>& events, const AllocatorOptions& options,
                   size_t first_counted = 0);

}  // namespace mmoe
