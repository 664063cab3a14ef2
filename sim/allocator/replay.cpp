#include "sim/allocator/replay.h"

#include "sim/units/errors.h"

namespace mmoe {

double ReplayPeaks::fragmentation() const {
  return allocated_bytes > 0 ? static_cast<double>(reserved_bytes) / static_cast<double>(allocated_bytes) : 0;
}

ReplayPeaks replay(const std::vector<AllocationEvent>& events, const AllocatorOptions& options, size_t first_counted) {
  constexpr CachingAllocatorModel::Handle kNotAllocated = -1;
  CachingAllocatorModel allocator(options);
  std::vector<CachingAllocatorModel::Handle> handles;  // [id]
  ReplayPeaks peaks;
  for (size_t i = 0; i < events.size(); ++i) {
    if (i == first_counted) allocator.reset_peaks();
    const AllocationEvent& event = events[i];
    MMOE_CHECK(event.id >= 0) << "event " << i << " has id " << event.id;
    const auto id = static_cast<size_t>(event.id);
    if (id >= handles.size()) handles.resize(id + 1, kNotAllocated);
    if (event.bytes == AllocationEvent::kFree) {
      MMOE_CHECK(handles[id] != kNotAllocated) << "event " << i << " frees " << id << ", which is not allocated";
      allocator.free(handles[id]);
      handles[id] = kNotAllocated;
      continue;
    }
    MMOE_CHECK(handles[id] == kNotAllocated) << "event " << i << " allocates " << id << " twice";
    const auto handle = allocator.allocate(event.bytes, event.stream);
    if (!handle) {
      peaks.out_of_memory_event = i;
      break;
    }
    handles[id] = *handle;
  }
  const AllocatorStatistics& statistics = allocator.statistics();
  peaks.allocated_bytes = statistics.peak_allocated_bytes;
  peaks.reserved_bytes = statistics.peak_reserved_bytes;
  peaks.inactive_split_bytes = statistics.inactive_split_bytes;
  peaks.num_segments = statistics.num_segments;
  peaks.num_cache_flushes = statistics.num_cache_flushes;
  return peaks;
}

}  // namespace mmoe
