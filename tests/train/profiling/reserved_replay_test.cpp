#include "train/profiling/reserved_replay.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "train/profiling/counting_allocator.h"

namespace mmoe {
namespace {

constexpr int64_t kMiB = 1 << 20;

// Rules of PyTorch's allocator: small requests reserve 2 MiB, requests below 10 MiB 20 MiB, larger ones their size in
// 2 MiB; expandable segments map pages of 20 MiB for large requests.
TEST(ReservedReplay, CountsWhatSegmentsHold) {
  ReservedReplay replay;
  const ReservedReplay::Handles small = replay.allocate(1000);
  EXPECT_EQ(replay.peaks().default_bytes, 2 * kMiB);
  EXPECT_EQ(replay.peaks().expandable_segments_bytes, 2 * kMiB);
  const ReservedReplay::Handles large = replay.allocate(31 * kMiB);
  EXPECT_EQ(replay.peaks().default_bytes, 34 * kMiB);
  EXPECT_EQ(replay.peaks().expandable_segments_bytes, 42 * kMiB);
  replay.free(large);
  replay.free(small);
  replay.free({});  // made before the replay began
  replay.reset_peaks();
  EXPECT_EQ(replay.peaks().default_bytes, 34 * kMiB);  // cached
}

// In a program of its own: the replay of the process starts with the first tensors.
TEST(ReplayCachingAllocator, SeesTensorsAndTheirEnd) {
  install_counting_allocator();
  EXPECT_FALSE(replayed_reserved_peaks().has_value());
  at::Tensor before = at::empty({4 * kMiB}, at::kByte);
  replay_caching_allocator();
  ASSERT_TRUE(replayed_reserved_peaks().has_value());
  before.reset();  // was not seen, and must not be freed from the model
  at::Tensor first = at::empty({30 * kMiB}, at::kByte);
  EXPECT_EQ(replayed_reserved_peaks()->default_bytes, 30 * kMiB);
  first.reset();
  const at::Tensor second = at::empty({30 * kMiB}, at::kByte);  // takes the cached segment
  reset_counted_peak();
  EXPECT_EQ(replayed_reserved_peaks()->default_bytes, 30 * kMiB);
  const at::Tensor third = at::empty({30 * kMiB}, at::kByte);
  EXPECT_EQ(replayed_reserved_peaks()->default_bytes, 60 * kMiB);
}

}  // namespace
}  // namespace mmoe
