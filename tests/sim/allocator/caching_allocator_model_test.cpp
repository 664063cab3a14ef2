#include "sim/allocator/caching_allocator_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kKib = 1 << 10, kMib = 1 << 20;
using State = CachingAllocatorModel::BlockState;

AllocatorOptions expandable() { return {.kind = AllocatorKind::kExpandableSegments}; }

int64_t allocated_for(int64_t bytes, const AllocatorOptions& options = {}) {
  CachingAllocatorModel model(options);
  model.allocate(bytes);
  return model.statistics().allocated_bytes;
}

int64_t reserved_for(int64_t bytes, const AllocatorOptions& options = {}) {
  CachingAllocatorModel model(options);
  model.allocate(bytes);
  return model.statistics().reserved_bytes;
}

TEST(Rounding, ToMultiplesOf512Bytes) {
  EXPECT_EQ(allocated_for(1), 512);
  EXPECT_EQ(allocated_for(512), 512);
  EXPECT_EQ(allocated_for(513), 1024);
  EXPECT_EQ(allocated_for(3 * kMib + 1), 3 * kMib + 512);
}

TEST(Rounding, ToDivisionsOfThePowerOfTwo) {
  const AllocatorOptions quarters{.round_up_power2_divisions = 4};
  EXPECT_EQ(allocated_for(2048, quarters), 2048);  // not above 4 * 512: multiples of 512
  EXPECT_EQ(allocated_for(1200, quarters), 1536);
  EXPECT_EQ(allocated_for(5000, quarters), 5 * kKib);  // 4096 + 1024
  EXPECT_EQ(allocated_for(65 * kMib, quarters), 80 * kMib);
  EXPECT_EQ(allocated_for(113 * kMib, quarters), 128 * kMib);
  EXPECT_EQ(allocated_for(64 * kMib, quarters), 64 * kMib);
}

TEST(Segments, SizeFollowsTheRequest) {
  EXPECT_EQ(reserved_for(1), 2 * kMib);
  EXPECT_EQ(reserved_for(kMib), 2 * kMib);
  EXPECT_EQ(reserved_for(kMib + 1), 20 * kMib);
  EXPECT_EQ(reserved_for(10 * kMib - 512), 20 * kMib);
  EXPECT_EQ(reserved_for(10 * kMib), 10 * kMib);
  EXPECT_EQ(reserved_for(10 * kMib + 1), 12 * kMib);
  EXPECT_EQ(reserved_for(33 * kMib), 34 * kMib);
}

TEST(Segments, PagesOfExpandableOnes) {
  EXPECT_EQ(reserved_for(1, expandable()), 2 * kMib);
  EXPECT_EQ(reserved_for(kMib + 1, expandable()), 20 * kMib);
  EXPECT_EQ(reserved_for(20 * kMib, expandable()), 20 * kMib);
  EXPECT_EQ(reserved_for(33 * kMib, expandable()), 40 * kMib);
}

TEST(Splitting, SmallBlocksDownTo512Bytes) {
  CachingAllocatorModel model({});
  const auto first = model.allocate(kMib);
  model.allocate(kMib - 512);
  EXPECT_EQ(model.statistics().inactive_split_bytes, 512);  // one block left in the segment
  model.allocate(1);                                        // takes it
  EXPECT_EQ(model.statistics().reserved_bytes, 2 * kMib);
  EXPECT_EQ(model.statistics().inactive_split_bytes, 0);
  model.free(*first);
  EXPECT_EQ(model.statistics().inactive_split_bytes, kMib);
}

TEST(Splitting, LargeBlocksOnlyWhereMoreThanAMibIsLeft) {
  CachingAllocatorModel model({});
  const auto whole = model.allocate(20 * kMib);
  model.free(*whole);
  const auto kept = model.allocate(19 * kMib);  // leaves exactly 1 MiB: given out whole
  EXPECT_EQ(model.statistics().allocated_bytes, 20 * kMib);
  model.free(*kept);
  model.allocate(19 * kMib - 512);
  EXPECT_EQ(model.statistics().allocated_bytes, 19 * kMib - 512);
  EXPECT_EQ(model.statistics().inactive_split_bytes, kMib + 512);
  EXPECT_EQ(model.statistics().reserved_bytes, 20 * kMib);
}

TEST(Splitting, ExpandableLargeBlocksDownTo512Bytes) {
  CachingAllocatorModel model(expandable());
  model.allocate(20 * kMib - 512);
  EXPECT_EQ(model.statistics().allocated_bytes, 20 * kMib - 512);
  EXPECT_EQ(model.statistics().inactive_split_bytes, 0);  // not counted: pages can be given back
}

TEST(BestFit, SmallestSufficientBlock) {
  CachingAllocatorModel model({});
  const auto large = model.allocate(40 * kMib), medium = model.allocate(24 * kMib), small = model.allocate(16 * kMib);
  for (const auto& handle : {large, medium, small}) model.free(*handle);
  model.allocate(20 * kMib);  // from the block of 24 MiB
  model.allocate(40 * kMib);  // still whole
  EXPECT_EQ(model.statistics().reserved_bytes, 80 * kMib);
  EXPECT_EQ(model.statistics().inactive_split_bytes, 4 * kMib);
}

TEST(BestFit, LowestAddressAmongEqualBlocks) {
  CachingAllocatorModel model({});
  const auto first = model.allocate(16 * kMib), second = model.allocate(16 * kMib);
  model.free(*second);
  model.free(*first);
  model.allocate(16 * kMib);
  EXPECT_EQ(model.segments()[0][0].state, State::kAllocated);
  EXPECT_EQ(model.segments()[1][0].state, State::kFree);
}

// A block that could grow is used last, even where it is the tightest fit now.
TEST(BestFit, ExpandableBlocksCountWhatTheyCanGrowTo) {
  CachingAllocatorModel model(expandable());
  const auto first = model.allocate(30 * kMib);
  model.allocate(5 * kMib);
  model.free(*first);        // free: 30 MiB at the start; 5 MiB before the unmapped addresses
  model.allocate(4 * kMib);  // fits 5 MiB, which can grow: the first block is cut instead
  const auto segment = model.segments().at(0);
  EXPECT_EQ(segment[0].state, State::kAllocated);
  EXPECT_EQ(segment[0].size, 4 * kMib);
  EXPECT_EQ(segment[1].size, 26 * kMib);
}

TEST(Joining, NeighboursOfOneSegmentOnly) {
  CachingAllocatorModel model({});
  std::vector<CachingAllocatorModel::Handle> handles;
  for (int i = 0; i < 8; ++i) handles.push_back(*model.allocate(5 * kMib));  // two segments of 20 MiB
  EXPECT_EQ(model.statistics().num_segments, 2);
  for (const int i : {0, 2, 1, 3, 7, 4, 6, 5}) model.free(handles[static_cast<size_t>(i)]);
  EXPECT_EQ(model.statistics().inactive_split_bytes, 0);
  model.allocate(20 * kMib);
  model.allocate(20 * kMib);
  EXPECT_EQ(model.statistics().reserved_bytes, 40 * kMib);
}

TEST(Pools, SmallLargeAndStreamsAreApart) {
  CachingAllocatorModel model({});
  model.free(*model.allocate(20 * kMib, 0));
  model.allocate(512, 0);
  EXPECT_EQ(model.statistics().reserved_bytes, 22 * kMib);
  model.allocate(20 * kMib, 1);
  EXPECT_EQ(model.statistics().reserved_bytes, 42 * kMib);
  model.allocate(20 * kMib, 0);
  EXPECT_EQ(model.statistics().reserved_bytes, 42 * kMib);
}

TEST(Oversize, IsNeitherCutNorLent) {
  CachingAllocatorModel model({.max_split_bytes = 64 * kMib});
  const auto oversize = model.allocate(100 * kMib);
  model.free(*oversize);
  model.allocate(40 * kMib);  // a segment of its own
  EXPECT_EQ(model.statistics().reserved_bytes, 140 * kMib);
  const auto near = model.allocate(81 * kMib);  // less than 20 MiB below: the whole block
  EXPECT_EQ(model.statistics().allocated_bytes, 140 * kMib);
  model.free(*near);
  model.allocate(80 * kMib);  // 20 MiB below: too wasteful
  EXPECT_EQ(model.statistics().reserved_bytes, 220 * kMib);
}

TEST(Oversize, IsReleasedBeforeTheOtherCachedBlocks) {
  CachingAllocatorModel model({.capacity_bytes = 200 * kMib, .max_split_bytes = 64 * kMib});
  const auto large = model.allocate(130 * kMib), small = model.allocate(30 * kMib);
  model.free(*large);
  model.free(*small);
  const auto other = model.allocate(100 * kMib);  // 260 MiB would not fit: the oversize block goes, the small one stays
  EXPECT_EQ(model.statistics().reserved_bytes, 130 * kMib);
  model.free(*other);
  const auto third = model.allocate(70 * kMib);  // 100 is too large to lend; 30 + 100 + 70 fit
  EXPECT_EQ(model.statistics().reserved_bytes, 200 * kMib);
  model.free(*third);
  model.allocate(160 * kMib);  // no single block makes room: the largest go until 160 are free, 100 and 70
  EXPECT_EQ(model.statistics().reserved_bytes, 190 * kMib);
  EXPECT_EQ(model.statistics().num_cache_flushes, 0);
}

TEST(Capacity, WhollyFreeSegmentsAreReleasedAndTheRequestTriedAgain) {
  CachingAllocatorModel model({.capacity_bytes = 100 * kMib});
  model.free(*model.allocate(60 * kMib));
  const auto cut = model.allocate(15 * kMib);  // out of the 60
  model.allocate(40 * kMib);
  EXPECT_FALSE(model.allocate(50 * kMib));  // the segment of 60 MiB is held by the 15
  EXPECT_EQ(model.statistics().num_cache_flushes, 1);
  EXPECT_EQ(model.statistics().allocated_bytes, 55 * kMib);
  model.free(*cut);
  EXPECT_FALSE(model.allocate(70 * kMib));
  EXPECT_TRUE(model.allocate(30 * kMib));
}

TEST(Capacity, ExpandableSegmentsGiveBackFreePages) {
  AllocatorOptions options = expandable();
  options.capacity_bytes = 100 * kMib;
  CachingAllocatorModel model(options);
  const auto first = model.allocate(60 * kMib);
  model.allocate(15 * kMib);  // pages of 20 MiB: 80 MiB mapped
  model.free(*first);
  model.allocate(1, 1);  // another stream's small pool: 82 MiB
  EXPECT_EQ(model.statistics().reserved_bytes, 82 * kMib);
  model.allocate(30 * kMib, 1);  // needs 40: the three free pages go
  EXPECT_EQ(model.statistics().reserved_bytes, (20 + 2 + 40) * kMib);
  EXPECT_FALSE(model.allocate(25 * kMib));  // two pages are too many,
  EXPECT_TRUE(model.allocate(20 * kMib));   // one fits into the hole
  EXPECT_EQ(model.statistics().reserved_bytes, (20 + 2 + 40 + 20) * kMib);
}

TEST(Expandable, GrowsWhereTheDefaultFragments) {
  CachingAllocatorModel fixed({}), growing(expandable());
  for (int i = 1; i <= 10; ++i) {  // one tensor that is replaced by a larger one
    fixed.free(*fixed.allocate(20 * i * kMib));
    growing.free(*growing.allocate(20 * i * kMib));
  }
  EXPECT_EQ(fixed.statistics().peak_reserved_bytes, 20 * 55 * kMib);
  EXPECT_EQ(growing.statistics().peak_reserved_bytes, 200 * kMib);
}

// Without frees each pool is one run of blocks, so only its last page is partly used.
TEST(Expandable, AllocationsAloneFillAllPagesButTheLast) {
  std::mt19937 random(5);
  CachingAllocatorModel model(expandable());
  int64_t small = 0, large = 0;
  for (int i = 0; i < 300; ++i) {
    const int64_t bytes = 512 * static_cast<int64_t>(1 + random() % (i % 2 == 0 ? 2048 : 100'000));
    (bytes <= kMib ? small : large) += bytes;
    model.allocate(bytes);
    const auto pages = [](int64_t sum, int64_t page) { return (sum + page - 1) / page * page; };
    ASSERT_EQ(model.statistics().reserved_bytes, pages(small, 2 * kMib) + pages(large, 20 * kMib));
  }
}

TEST(Statistics, PeaksCanBeReset) {
  CachingAllocatorModel model({});
  model.free(*model.allocate(30 * kMib));
  model.empty_cache();
  model.allocate(12 * kMib);
  EXPECT_EQ(model.statistics().peak_reserved_bytes, 30 * kMib);
  model.reset_peaks();
  EXPECT_EQ(model.statistics().peak_reserved_bytes, 12 * kMib);
  EXPECT_EQ(model.statistics().peak_allocated_bytes, 12 * kMib);
}

TEST(Errors, NameTheOptionOrTheHandle) {
  EXPECT_THROW(CachingAllocatorModel({.capacity_bytes = 0}), ConfigError);
  EXPECT_THROW(CachingAllocatorModel({.max_split_bytes = 20 * kMib}), ConfigError);
  EXPECT_THROW(CachingAllocatorModel({.max_non_split_rounding_bytes = kMib}), ConfigError);
  EXPECT_THROW(CachingAllocatorModel({.round_up_power2_divisions = 3}), ConfigError);
  CachingAllocatorModel model({});
  EXPECT_THROW(model.allocate(0), std::logic_error);
  const auto handle = model.allocate(1);
  model.free(*handle);
  EXPECT_THROW(model.free(*handle), std::logic_error);
  EXPECT_THROW(model.free(-1), std::logic_error);
}

// What must hold after any request; num_live: allocations not yet freed.
void check(const CachingAllocatorModel& model, const AllocatorOptions& options, size_t num_live) {
  const AllocatorStatistics& statistics = model.statistics();
  int64_t allocated = 0, mapped = 0, split = 0, end = -1;
  size_t live = 0;
  auto segments = model.segments();
  std::sort(segments.begin(), segments.end(), [](const auto& a, const auto& b) { return a[0].address < b[0].address; });
  for (const auto& segment : segments) {
    ASSERT_GE(segment[0].address, end);  // segments do not overlap
    end = segment[0].address;
    for (size_t i = 0; i < segment.size(); ++i) {
      const auto& block = segment[i];
      ASSERT_EQ(block.address, end);  // the blocks of a segment cover it
      ASSERT_GT(block.size, 0);
      ASSERT_EQ(block.size % 512, 0);
      end += block.size;
      if (block.state == State::kAllocated) {
        ++live;
        allocated += block.size;
      } else if (i > 0) {
        ASSERT_NE(block.state, segment[i - 1].state);  // no two neighbours free
      }
      if (block.state != State::kUnmapped) mapped += block.size;
      if (block.state == State::kFree && segment.size() > 1) split += block.size;
    }
  }
  ASSERT_EQ(live, num_live);
  ASSERT_EQ(statistics.allocated_bytes, allocated);
  ASSERT_EQ(statistics.reserved_bytes, mapped);
  ASSERT_GE(mapped, allocated);
  ASSERT_LE(mapped, options.capacity_bytes);
  ASSERT_EQ(statistics.inactive_split_bytes, options.kind == AllocatorKind::kDefault ? split : 0);
  ASSERT_EQ(statistics.num_segments, static_cast<int64_t>(segments.size()));
  ASSERT_GE(statistics.peak_allocated_bytes, allocated);
  ASSERT_GE(statistics.peak_reserved_bytes, mapped);
  ASSERT_GE(statistics.peak_reserved_bytes, statistics.peak_allocated_bytes);
}

struct RandomCase {
  const char* name;
  AllocatorOptions options;
};

void PrintTo(const RandomCase& row, std::ostream* out) { *out << row.name; }

class RandomRequests : public testing::TestWithParam<RandomCase> {};

TEST_P(RandomRequests, KeepTheInvariants) {
  const AllocatorOptions& options = GetParam().options;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    CachingAllocatorModel model(options);
    std::vector<CachingAllocatorModel::Handle> live;
    int64_t failures = 0;
    for (int i = 0; i < 1000; ++i) {
      if (live.empty() || random() % 100 < 52) {
        const int64_t largest = random() % 2 == 0 ? 2 * kMib : 60 * kMib;
        const int64_t bytes = 1 + static_cast<int64_t>(random()) % largest;
        const auto handle = model.allocate(bytes, static_cast<int32_t>(random() % 2));
        if (handle) live.push_back(*handle);
        failures += handle ? 0 : 1;
      } else {
        std::swap(live[random() % live.size()], live.back());
        model.free(live.back());
        live.pop_back();
      }
      check(model, options, live.size());
      if (HasFatalFailure()) FAIL() << "seed " << seed << " event " << i;
    }
    EXPECT_EQ(failures > 0, options.capacity_bytes < 1000 * kMib);
    while (!live.empty()) {
      model.free(live.back());
      live.pop_back();
    }
    for (const auto& segment : model.segments()) {
      if (options.kind == AllocatorKind::kDefault) {
        EXPECT_EQ(segment.size(), 1u);
      }
      for (const auto& block : segment) EXPECT_NE(block.state, State::kAllocated);
    }
    EXPECT_EQ(model.statistics().inactive_split_bytes, 0);
    model.empty_cache();
    EXPECT_EQ(model.statistics().reserved_bytes, 0);
    for (const auto& segment : model.segments()) {  // a range stays where the device was too full for its first page
      EXPECT_EQ(segment.size(), 1u);
      EXPECT_EQ(segment[0].state, State::kUnmapped);
    }
  }
}

constexpr int64_t kTight = 200 * kMib;
INSTANTIATE_TEST_SUITE_P(
    , RandomRequests,
    testing::Values(RandomCase{"default", {}}, RandomCase{"expandable", {.kind = AllocatorKind::kExpandableSegments}},
                    RandomCase{"tight", {.capacity_bytes = kTight}},
                    RandomCase{"tight_expandable",
                               {.kind = AllocatorKind::kExpandableSegments, .capacity_bytes = kTight}},
                    RandomCase{"oversize", {.max_split_bytes = 32 * kMib}},
                    RandomCase{"tight_oversize", {.capacity_bytes = kTight, .max_split_bytes = 32 * kMib}},
                    RandomCase{"divisions", {.round_up_power2_divisions = 8}}),
    [](const auto& row) { return std::string(row.param.name); });

// Requests to the allocator of PyTorch itself (libc10_cuda of 2.15.0, over a device that only counts its memory), one a
// row, with its statistics after each. bytes 0 frees the tensor; `fits` 0 is an OutOfMemoryError. Integers, so equal.
TEST(Recorded, AgreesWithPyTorchAfterEveryRequest) {
  std::ifstream file(MMOE_SOURCE_DIR "/tests/golden/allocator/c10_cuda_2_15.csv");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  int64_t sequence = -1, row = 1;
  std::optional<CachingAllocatorModel> model;
  std::map<int64_t, CachingAllocatorModel::Handle> live;
  while (std::getline(file, line)) {
    ++row;
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream fields(line);
    int64_t next_sequence, is_expandable, max_split_mib, divisions, capacity_mib, bytes, id, stream, fits, allocated,
        reserved, inactive_split;
    ASSERT_TRUE(fields >> next_sequence >> is_expandable >> max_split_mib >> divisions >> capacity_mib >> bytes >> id >>
                stream >> fits >> allocated >> reserved >> inactive_split)
        << "row " << row;
    if (next_sequence != sequence) {
      sequence = next_sequence;
      AllocatorOptions options{.capacity_bytes = capacity_mib * kMib,
                               .round_up_power2_divisions = static_cast<int>(divisions)};
      if (is_expandable != 0) options.kind = AllocatorKind::kExpandableSegments;
      if (max_split_mib > 0) options.max_split_bytes = max_split_mib * kMib;
      model.emplace(options);
      live.clear();
    }
    if (bytes == 0) {
      model->free(live.at(id));
      live.erase(id);
    } else {
      const auto handle = model->allocate(bytes, static_cast<int32_t>(stream));
      ASSERT_EQ(handle.has_value(), fits == 1) << "row " << row;
      if (handle) live[id] = *handle;
    }
    ASSERT_EQ(model->statistics().allocated_bytes, allocated) << "row " << row;
    ASSERT_EQ(model->statistics().reserved_bytes, reserved) << "row " << row;
    ASSERT_EQ(model->statistics().inactive_split_bytes, inactive_split) << "row " << row;
  }
  EXPECT_GT(row, 1000);
}

}  // namespace
}  // namespace mmoe
