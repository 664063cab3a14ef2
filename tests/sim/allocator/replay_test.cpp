#include "sim/allocator/replay.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

constexpr int64_t kMib = 1 << 20;
constexpr int64_t kFree = AllocationEvent::kFree;

TEST(Replay, PeaksOfAHandComputedSequence) {
  // A segment of 30 MiB, cut into 12 and 18; 24 MiB then need another one while 12 of the first are in use.
  const std::vector<AllocationEvent> events = {{30 * kMib, 0}, {kFree, 0}, {12 * kMib, 0}, {24 * kMib, 1}, {kFree, 1}};
  const ReplayPeaks peaks = replay(events, {});
  EXPECT_EQ(peaks.allocated_bytes, 36 * kMib);
  EXPECT_EQ(peaks.reserved_bytes, 54 * kMib);
  EXPECT_EQ(peaks.fragmentation(), 1.5);
  EXPECT_EQ(peaks.inactive_split_bytes, 18 * kMib);
  EXPECT_EQ(peaks.num_segments, 2);
  EXPECT_FALSE(peaks.out_of_memory_event);
  // Expandable: pages of 20 MiB; 12 + 24 need two of them.
  const ReplayPeaks expandable = replay(events, {.kind = AllocatorKind::kExpandableSegments});
  EXPECT_EQ(expandable.allocated_bytes, 36 * kMib);
  EXPECT_EQ(expandable.reserved_bytes, 40 * kMib);
}

TEST(Replay, PeaksCountFromTheGivenEvent) {
  const std::vector<AllocationEvent> events = {{30 * kMib, 0}, {kFree, 0}, {12 * kMib, 1}};
  const ReplayPeaks peaks = replay(events, {}, 2);
  EXPECT_EQ(peaks.allocated_bytes, 12 * kMib);
  EXPECT_EQ(peaks.reserved_bytes, 30 * kMib);  // what the first step left cached
}

TEST(Replay, StopsWhereTheDeviceIsFull) {
  const std::vector<AllocationEvent> events = {{30 * kMib, 0}, {30 * kMib, 1}, {30 * kMib, 2}};
  const ReplayPeaks peaks = replay(events, {.capacity_bytes = 64 * kMib});
  EXPECT_EQ(peaks.out_of_memory_event, 2u);
  EXPECT_EQ(peaks.allocated_bytes, 60 * kMib);
  EXPECT_EQ(peaks.num_cache_flushes, 1);
}

TEST(Replay, NothingIsNotFragmented) { EXPECT_EQ(replay({}, {}).fragmentation(), 0); }

TEST(Replay, EventsThatMakeNoSenseAreErrors) {
  EXPECT_THROW(replay({{kFree, 0}}, {}), std::logic_error);
  EXPECT_THROW(replay({{512, 0}, {512, 0}}, {}), std::logic_error);
  EXPECT_THROW(replay({{512, -1}}, {}), std::logic_error);
}

}  // namespace
}  // namespace mmoe
