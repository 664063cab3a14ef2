#pragma once
// What a GPU's caching allocator would have reserved for the requests of a CPU run.

#include <cstdint>
#include <mutex>

#include "sim/allocator/caching_allocator_model.h"

namespace mmoe {

// Peak bytes reserved since the last reset, by kind of allocator, on a device without limit.
struct ReplayedReserved {
  int64_t default_bytes = 0;
  int64_t expandable_segments_bytes = 0;
};

// Feeds requests to the model of the caching allocator as they are made, one stream. Safe from all threads. The order
// of requests is the CPU run's own: workspaces that only CPU kernels need are among them, those of GPU libraries are
// not.
class ReservedReplay {
 public:
  // What free() needs to know; default: not replayed.
  struct Handles {
    CachingAllocatorModel::Handle by_default = -1, expandable = -1;
  };

  Handles allocate(int64_t bytes);  // bytes > 0
  void free(Handles handles);
  void reset_peaks();
  ReplayedReserved peaks() const;

 private:
  mutable std::mutex mutex_;
  CachingAllocatorModel default_{AllocatorOptions{.kind = AllocatorKind::kDefault}};
  CachingAllocatorModel expandable_{AllocatorOptions{.kind = AllocatorKind::kExpandableSegments}};
};

}  // namespace mmoe
