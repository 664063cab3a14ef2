#include "sim/allocator/caching_allocator_model.h"

#include <algorithm>
#include <bit>
#include <string>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kMib = 1 << 20;
constexpr int64_t kMinBlock = 512;
constexpr int64_t kLargestSmall = kMib;
constexpr int64_t kSmallSegment = 2 * kMib;
constexpr int64_t kLargeSegment = 20 * kMib;
constexpr int64_t kLeastOwnSegment = 10 * kMib;  // from here on a segment is made for its request
constexpr int64_t kLargeRounding = 2 * kMib;
constexpr int64_t kLargestRequest = int64_t{1} << 50;
constexpr int64_t kLargestRange = int64_t{1} << 46;  // address range where the capacity is not limited: 64 TiB

constexpr int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

void AllocatorOptions::validate() const {
  const auto fail = [](const std::string& text) { throw ConfigError("allocator: " + text); };
  if (capacity_bytes <= 0) fail("capacity_bytes = " + std::to_string(capacity_bytes) + " must be positive");
  if (max_split_bytes <= kLargeSegment) {
    fail("max_split_bytes = " + std::to_string(max_split_bytes) +
         " must be above 20 MiB, the size of a shared segment");
  }
  if (max_non_split_rounding_bytes < kLargeSegment) {
    fail("max_non_split_rounding_bytes = " + std::to_string(max_non_split_rounding_bytes) + " must be at least 20 MiB");
  }
  if (round_up_power2_divisions < 1 || !std::has_single_bit(static_cast<unsigned>(round_up_power2_divisions))) {
    fail("round_up_power2_divisions = " + std::to_string(round_up_power2_divisions) + " must be a power of two");
  }
}

CachingAllocatorModel::CachingAllocatorModel(const AllocatorOptions& options) : options_(options) {
  options_.validate();
}

int64_t CachingAllocatorModel::rounded_size(int64_t bytes) const {
  const int64_t divisions = options_.round_up_power2_divisions;
  if (divisions > 1 && bytes > kMinBlock * divisions) {
    const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)));
    return round_up(bytes, power / divisions);
  }
  return round_up(bytes, kMinBlock);
}

int64_t CachingAllocatorModel::segment_size(int64_t size) const {
  if (size <= kLargestSmall) return kSmallSegment;
  return size < kLeastOwnSegment ? kLargeSegment : round_up(size, kLargeRounding);
}

int64_t CachingAllocatorModel::page_size(const Pool& pool) const {
  return pool.is_small ? kSmallSegment : kLargeSegment;
}

bool CachingAllocatorModel::should_split(const Pool& pool, int64_t block_size, int64_t size) const {
  const int64_t rest = block_size - size;
  if (pool.is_small || is_expandable()) return rest >= kMinBlock;
  return size < options_.max_split_bytes && rest > kLargestSmall;
}

int32_t CachingAllocatorModel::pool_of(int32_t stream, bool is_small) {
  for (size_t i = 0; i < pools_.size(); ++i) {
    if (pools_[i].stream == stream && pools_[i].is_small == is_small) return static_cast<int32_t>(i);
  }
  pools_.push_back({stream, is_small, {}, {}});
  return static_cast<int32_t>(pools_.size() - 1);
}

std::optional<CachingAllocatorModel::Handle> CachingAllocatorModel::allocate(int64_t bytes, int32_t stream) {
  MMOE_CHECK(bytes > 0 && bytes <= kLargestRequest) << bytes << " bytes";
  const int64_t size = rounded_size(bytes);
  const int32_t pool = pool_of(stream, size <= kLargestSmall);
  int32_t block = find_free(pool, size);
  if (block == kNone) {
    block = new_segment(pool, size);
    if (block == kNone && release_oversize(pool, size)) block = new_segment(pool, size);
    if (block == kNone) {
      ++statistics_.num_cache_flushes;
      empty_cache();
      block = new_segment(pool, size);
    }
    if (block == kNone) return std::nullopt;
  }
  unlist(block);
  if (should_split(pools_[static_cast<size_t>(pool)], at(block).size, size)) list(split(block, size));
  at(block).state = BlockState::kAllocated;
  statistics_.allocated_bytes += at(block).size;
  statistics_.peak_allocated_bytes = std::max(statistics_.peak_allocated_bytes, statistics_.allocated_bytes);
  return block;
}

void CachingAllocatorModel::free(Handle handle) {
  MMOE_CHECK(handle >= 0 && static_cast<size_t>(handle) < blocks_.size() && at(handle).state == BlockState::kAllocated)
      << "handle " << handle;
  statistics_.allocated_bytes -= at(handle).size;
  at(handle).state = BlockState::kFree;
  list(join(handle));
}

void CachingAllocatorModel::reset_peaks() {
  statistics_.peak_allocated_bytes = statistics_.allocated_bytes;
  statistics_.peak_reserved_bytes = statistics_.reserved_bytes;
}

// The free block that best fits, still listed.
int32_t CachingAllocatorModel::find_free(int32_t pool, int64_t size) const {
  const FreeBlocks& free = pools_[static_cast<size_t>(pool)].free;
  auto found = free.lower_bound(size, 0);
  if (found == free.end()) return kNone;
  if (is_expandable()) {
    // A block before unmapped pages counts as large as it can grow: what can grow furthest is used last.
    const auto reach = [&](FreeBlocks::Position position) {
      const Block& block = at(free[position].block);
      const bool can_grow = block.next != kNone && at(block.next).state == BlockState::kUnmapped;
      return block.size + (can_grow ? at(block.next).size : 0);
    };
    for (auto next = free.next(found); next != free.end() && reach(next) < reach(found); next = free.next(next)) {
      found = next;
    }
  }
  const int64_t found_size = free[found].size;
  if (size < options_.max_split_bytes && found_size >= options_.max_split_bytes) return kNone;
  if (size >= options_.max_split_bytes && found_size >= size + options_.max_non_split_rounding_bytes) return kNone;
  return free[found].block;
}

void CachingAllocatorModel::reserve(int64_t bytes) {
  statistics_.reserved_bytes += bytes;
  statistics_.peak_reserved_bytes = std::max(statistics_.peak_reserved_bytes, statistics_.reserved_bytes);
}

// A free block of a segment reserved for this size, listed; kNone where the device is full.
int32_t CachingAllocatorModel::new_segment(int32_t pool, int64_t size) {
  if (is_expandable()) return expand(pool, size);
  const int64_t bytes = segment_size(size);
  if (bytes > options_.capacity_bytes - statistics_.reserved_bytes) return kNone;
  reserve(bytes);
  ++statistics_.num_segments;
  const int32_t block = new_block(next_address_, bytes, pool, BlockState::kFree);
  next_address_ += bytes;
  list(block);
  return block;
}

// As new_segment, by mapping pages.
int32_t CachingAllocatorModel::expand(int32_t pool, int64_t size) {
  int32_t block = expandable_run(pool, size);
  if (at(block).state == BlockState::kUnmapped) block = map_pages(block, std::min(at(block).size, size));
  while (block != kNone && at(block).size < size) {
    const int32_t hole = at(block).next;
    if (hole == kNone) return kNone;  // a request larger than the range
    block = map_pages(hole, std::min(size - at(block).size, at(hole).size));
  }
  return block;
}

// The first block of the lowest run of unmapped and free blocks that reaches `size`; a new range where there is none.
int32_t CachingAllocatorModel::expandable_run(int32_t pool, int64_t size) {
  const FreeBlocks& unmapped = pools_[static_cast<size_t>(pool)].unmapped;
  const auto usable = [&](int32_t block) { return block != kNone && at(block).state != BlockState::kAllocated; };
  for (auto hole = unmapped.begin(); hole != unmapped.end(); hole = unmapped.next(hole)) {
    int32_t first = unmapped[hole].block;
    if (usable(at(first).previous)) first = at(first).previous;
    int64_t reach = 0;
    for (int32_t block = first; usable(block) && reach < size; block = at(block).next) reach += at(block).size;
    if (reach >= size) return first;
  }
  // PyTorch reserves an eighth more addresses than the device has memory.
  const bool limited = options_.capacity_bytes < kLargestRange;
  const int64_t range = limited ? options_.capacity_bytes + options_.capacity_bytes / 8 : kLargestRange;
  const int64_t bytes = round_up(range, page_size(pools_[static_cast<size_t>(pool)]));
  const int32_t block = new_block(next_address_, bytes, pool, BlockState::kUnmapped);
  next_address_ += round_up(bytes, kLargeSegment);  // starts on a page of either pool
  ++statistics_.num_segments;
  list(block);
  return block;
}

// Maps pages for the first `size` bytes of an unmapped block. Returns the free block that they are part of, or kNone
// where the device is full.
int32_t CachingAllocatorModel::map_pages(int32_t block, int64_t size) {
  const int64_t bytes = round_up(size, page_size(pools_[static_cast<size_t>(at(block).pool)]));
  if (bytes > options_.capacity_bytes - statistics_.reserved_bytes) return kNone;
  unlist(block);
  if (bytes < at(block).size) list(split(block, bytes));
  at(block).state = BlockState::kFree;
  reserve(bytes);
  block = join(block);
  list(block);
  return block;
}

// Gives back the whole pages of a free block, and a range that has no others.
void CachingAllocatorModel::unmap_pages(int32_t block) {
  const int64_t page = page_size(pools_[static_cast<size_t>(at(block).pool)]);
  const int64_t begin = round_up(at(block).address, page);
  const int64_t end = (at(block).address + at(block).size) / page * page;
  if (begin >= end) return;
  unlist(block);
  if (begin > at(block).address) {
    const int32_t pages = split(block, begin - at(block).address);
    list(block);
    block = pages;
  }
  if (end < at(block).address + at(block).size) list(split(block, end - begin));
  at(block).state = BlockState::kUnmapped;
  statistics_.reserved_bytes -= end - begin;
  block = join(block);
  list(block);
  if (!in_split_segment(at(block))) release_segment(block);
}

// Where large blocks are kept whole: gives back the smallest cached one that makes room, else the largest ones until
// they do. False where that is not enough.
bool CachingAllocatorModel::release_oversize(int32_t pool, int64_t size) {
  if (options_.max_split_bytes == AllocatorOptions::kUnlimited || is_expandable()) return false;
  const int64_t wanted = std::max(size, options_.max_split_bytes);
  const FreeBlocks& free = pools_[static_cast<size_t>(pool)].free;
  const auto found = free.lower_bound(wanted, 0);
  if (found != free.end()) {
    release_segment(free[found].block);
    return true;
  }
  int64_t released = 0;
  while (released < wanted && free.begin() != free.end()) {
    const FreeBlocks::Entry largest = free[free.previous(free.end())];
    if (largest.size < options_.max_split_bytes) break;
    released += largest.size;
    release_segment(largest.block);
  }
  return released >= wanted;
}

void CachingAllocatorModel::empty_cache() {
  std::vector<int32_t> cached;
  for (const Pool& pool : pools_) {
    for (auto at = pool.free.begin(); at != pool.free.end(); at = pool.free.next(at))
      cached.push_back(pool.free[at].block);
  }
  for (const int32_t block : cached) {
    if (is_expandable()) {
      unmap_pages(block);
    } else if (!in_split_segment(at(block))) {
      release_segment(block);
    }
  }
}

void CachingAllocatorModel::release_segment(int32_t block) {
  unlist(block);
  if (at(block).state == BlockState::kFree) statistics_.reserved_bytes -= at(block).size;
  --statistics_.num_segments;
  at(block).state = BlockState::kUnused;
  unused_.push_back(block);
}

int32_t CachingAllocatorModel::new_block(int64_t address, int64_t size, int32_t pool, BlockState state) {
  const Block block{address, size, kNone, kNone, pool, state};
  if (unused_.empty()) {
    blocks_.push_back(block);
    return static_cast<int32_t>(blocks_.size() - 1);
  }
  const int32_t index = unused_.back();
  unused_.pop_back();
  at(index) = block;
  return index;
}

// Cuts an unlisted block to `size`; returns the rest, in the same state and unlisted.
int32_t CachingAllocatorModel::split(int32_t block, int64_t size) {
  const int32_t rest = new_block(at(block).address + size, at(block).size - size, at(block).pool, at(block).state);
  at(block).size = size;
  at(rest).previous = block;
  at(rest).next = at(block).next;
  at(block).next = rest;
  if (at(rest).next != kNone) at(at(rest).next).previous = rest;
  return rest;
}

// Joins an unlisted block with its neighbours of the same state, which leave their lists; returns the whole, unlisted.
int32_t CachingAllocatorModel::join(int32_t block) {
  const auto absorb_next = [&](int32_t first) {
    const int32_t second = at(first).next;
    at(first).size += at(second).size;
    at(first).next = at(second).next;
    if (at(first).next != kNone) at(at(first).next).previous = first;
    at(second).state = BlockState::kUnused;
    unused_.push_back(second);
  };
  const auto joins = [&](int32_t neighbour) { return neighbour != kNone && at(neighbour).state == at(block).state; };
  if (joins(at(block).next)) {
    unlist(at(block).next);
    absorb_next(block);
  }
  if (joins(at(block).previous)) {
    block = at(block).previous;
    unlist(block);
    absorb_next(block);
  }
  return block;
}

void CachingAllocatorModel::list(int32_t index) {
  const Block& block = at(index);
  Pool& pool = pools_[static_cast<size_t>(block.pool)];
  if (block.state == BlockState::kUnmapped) {
    pool.unmapped.insert({0, block.address, index});
    return;
  }
  pool.free.insert({block.size, block.address, index});
  if (!is_expandable() && in_split_segment(block)) statistics_.inactive_split_bytes += block.size;
}

void CachingAllocatorModel::unlist(int32_t index) {
  const Block& block = at(index);
  Pool& pool = pools_[static_cast<size_t>(block.pool)];
  if (block.state == BlockState::kUnmapped) {
    pool.unmapped.erase(0, block.address);
    return;
  }
  pool.free.erase(block.size, block.address);
  if (!is_expandable() && in_split_segment(block)) statistics_.inactive_split_bytes -= block.size;
}

std::vector<std::vector<CachingAllocatorModel::BlockView>> CachingAllocatorModel::segments() const {
  std::vector<std::vector<BlockView>> segments;
  for (const Block& first : blocks_) {
    if (first.state == BlockState::kUnused || first.previous != kNone) continue;
    auto& segment = segments.emplace_back();
    for (const Block* block = &first;; block = &at(block->next)) {
      segment.push_back({block->address, block->size, block->state});
      if (block->next == kNone) break;
    }
  }
  return segments;
}

}  // namespace mmoe
