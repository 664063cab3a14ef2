#include "sim/allocator/free_blocks.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <tuple>

namespace mmoe {
namespace {

using Key = std::tuple<int64_t, int64_t, int32_t>;

std::vector<Key> contents(const FreeBlocks& blocks) {
  std::vector<Key> keys;
  for (auto at = blocks.begin(); at != blocks.end(); at = blocks.next(at)) {
    keys.emplace_back(blocks[at].size, blocks[at].address, blocks[at].block);
  }
  return keys;
}

TEST(FreeBlocks, EmptyHasNoBounds) {
  const FreeBlocks blocks;
  EXPECT_EQ(blocks.begin(), blocks.end());
  EXPECT_EQ(blocks.lower_bound(0, 0), blocks.end());
}

TEST(FreeBlocks, ErasingWhatIsNotThereIsAnError) {
  FreeBlocks blocks;
  EXPECT_THROW(blocks.erase(1, 2), std::logic_error);
  blocks.insert({1, 3, 0});
  EXPECT_THROW(blocks.erase(1, 2), std::logic_error);
}

// Grows to many runs and shrinks to none, twice.
TEST(FreeBlocks, AgreesWithSet) {
  std::mt19937 random(3);
  FreeBlocks blocks;
  std::set<Key> wanted;
  for (int i = 0; i < 20'000; ++i) {
    const bool growing = i % 10'000 < 5'000;
    if (wanted.empty() || random() % 8 < (growing ? 6 : 2)) {
      const Key key{random() % 50, random() % 1'000'000, i};  // braces: drawn in this order
      const auto same = wanted.lower_bound({std::get<0>(key), std::get<1>(key), 0});
      if (same != wanted.end() && std::get<0>(*same) == std::get<0>(key) && std::get<1>(*same) == std::get<1>(key))
        continue;
      blocks.insert({std::get<0>(key), std::get<1>(key), i});
      wanted.insert(key);
    } else {
      auto victim = wanted.lower_bound(Key{random() % 50, random() % 1'000'000, 0});
      if (victim == wanted.end()) victim = wanted.begin();
      blocks.erase(std::get<0>(*victim), std::get<1>(*victim));
      wanted.erase(victim);
    }
    const Key probe{random() % 52, random() % 1'000'000, 0};
    const auto expected = wanted.lower_bound(probe);
    const auto found = blocks.lower_bound(std::get<0>(probe), std::get<1>(probe));
    ASSERT_EQ(found == blocks.end(), expected == wanted.end());
    if (expected == wanted.end()) continue;
    ASSERT_EQ(blocks[found].block, std::get<2>(*expected));
    if (expected != wanted.begin()) {
      ASSERT_EQ(blocks[blocks.previous(found)].block, std::get<2>(*std::prev(expected)));
    }
    if (i % 500 == 0) {
      ASSERT_EQ(contents(blocks), std::vector<Key>(wanted.begin(), wanted.end()));
    }
  }
}

}  // namespace
}  // namespace mmoe
