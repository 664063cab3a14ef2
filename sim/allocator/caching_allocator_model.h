#pragma once
// PyTorch's CUDA caching allocator as arithmetic on addresses: which blocks a sequence of requests cuts, and so how
// many bytes it reserves from the device. No memory is touched.

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "sim/allocator/free_blocks.h"
#include "sim/config/hardware_config.h"

namespace mmoe {

// As PYTORCH_CUDA_ALLOC_CONF; bytes are exact integers here, as in the allocator.
struct AllocatorOptions {
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

  AllocatorKind kind = AllocatorKind::kDefault;
  int64_t capacity_bytes = kUnlimited;   // of the device, less what the runtime and others hold
  int64_t max_split_bytes = kUnlimited;  // blocks from here on are neither split nor lent to smaller requests
  int64_t max_non_split_rounding_bytes = 20'971'520;  // how much larger such a block may be than its request
  int round_up_power2_divisions = 1;                  // sizes are rounded up to 1/n of their power of two; 1: not

  // Throws ConfigError naming the option.
  void validate() const;
};

// Current and peak bytes. `allocated` counts rounded blocks, as torch.cuda.memory_allocated does; inactive_split is
// what is free beside used blocks of a segment, 0 with expandable segments, whose free pages can be given back.
struct AllocatorStatistics {
  int64_t allocated_bytes = 0, peak_allocated_bytes = 0;
  int64_t reserved_bytes = 0, peak_reserved_bytes = 0;
  int64_t inactive_split_bytes = 0;
  int64_t num_segments = 0;       // with expandable segments: reserved address ranges
  int64_t num_cache_flushes = 0;  // times that all cached blocks were given back to satisfy a request
};

// The rules (constants as in PyTorch 2.x, c10/core/AllocatorConfig.h):
//   - sizes are rounded up to 512 B; up to 1 MiB they come from the small pool, else from the large one, each its own
//   for
//     every stream;
//   - a request takes the smallest free block that holds it, of equal ones the lowest address; the rest is split off
//   when
//     it is >= 512 B (small pool, expandable segments) or > 1 MiB (large pool);
//   - without one a new segment is reserved: 2 MiB for small requests, 20 MiB below 10 MiB, else the size rounded up to
//     2 MiB; with expandable segments pages of 2 MiB (small pool) or 20 MiB (large pool) are mapped behind the range's
//     end or into its holes, together with free blocks beside them;
//   - where the device is full, all segments (or pages) that are wholly free are given back and the request is tried
//   again;
//   - freed blocks join free neighbours of their segment.
// New segments lie at rising addresses. Not modelled: garbage collection, CUDA graph pools, blocks held back by
// record_stream until an event has passed.
class CachingAllocatorModel {
 public:
  using Handle = int32_t;

  explicit CachingAllocatorModel(const AllocatorOptions& options);

  // Nothing where the device has no room even after giving back what is cached. bytes > 0.
  std::optional<Handle> allocate(int64_t bytes, int32_t stream = 0);
  void free(Handle handle);
  // Gives back what is wholly free, as torch.cuda.empty_cache.
  void empty_cache();

  const AllocatorStatistics& statistics() const { return statistics_; }
  // Peaks count from now on.
  void reset_peaks();

  enum class BlockState : uint8_t { kAllocated, kFree, kUnmapped, kUnused };
  struct BlockView {
    int64_t address, size;
    BlockState state;
  };
  // The blocks of each segment in order of address.
  std::vector<std::vector<BlockView>> segments() const;

 private:
  static constexpr int32_t kNone = -1;

  struct Block {
    int64_t address, size;
    int32_t previous, next;  // neighbours in the segment
    int32_t pool;
    BlockState state;
  };
  struct Pool {
    int32_t stream;
    bool is_small;
    FreeBlocks free;
    FreeBlocks unmapped;  // keyed by address alone (size 0)
  };

  bool is_expandable() const { return options_.kind == AllocatorKind::kExpandableSegments; }
  int64_t rounded_size(int64_t bytes) const;
  int64_t segment_size(int64_t size) const;
  int64_t page_size(const Pool& pool) const;
  bool should_split(const Pool& pool, int64_t block_size, int64_t size) const;
  int32_t pool_of(int32_t stream, bool is_small);

  int32_t find_free(int32_t pool, int64_t size) const;
  int32_t new_segment(int32_t pool, int64_t size);
  int32_t expand(int32_t pool, int64_t size);
  int32_t expandable_run(int32_t pool, int64_t size);
  int32_t map_pages(int32_t block, int64_t size);
  void unmap_pages(int32_t block);
  bool release_oversize(int32_t pool, int64_t size);
  void release_segment(int32_t block);

  int32_t new_block(int64_t address, int64_t size, int32_t pool, BlockState state);
  int32_t split(int32_t block, int64_t size);
  int32_t join(int32_t block);
  void list(int32_t block);
  void unlist(int32_t block);
  bool in_split_segment(const Block& block) const { return block.previous != kNone || block.next != kNone; }
  Block& at(int32_t block) { return blocks_[static_cast<size_t>(block)]; }
  const Block& at(int32_t block) const { return blocks_[static_cast<size_t>(block)]; }
  void reserve(int64_t bytes);

  AllocatorOptions options_;
  AllocatorStatistics statistics_;
  std::vector<Block> blocks_;
  std::vector<int32_t> unused_;  // indices of blocks_
  std::vector<Pool> pools_;
  int64_t next_address_ = 0;
};

}  // namespace mmoe
