#include "sim/allocator/free_blocks.h"

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr size_t kMaxRun = 64;

__extension__ typedef unsigned __int128 Key;

Key key_of(int64_t size, int64_t address) {
  return static_cast<Key>(static_cast<uint64_t>(size)) << 64 | static_cast<uint64_t>(address);
}

// The number of elements of a sorted sequence that lie below the key. Without branches on the keys: where a block falls
// among the free ones cannot be foreseen, and each wrong guess would cost more than a step of the search.
template <class KeyAt>
size_t count_below(size_t count, Key key, KeyAt key_at) {
  if (count == 0) return 0;
  size_t first = 0;
  while (count > 1) {
    const size_t half = count / 2;
    first += key_at(first + half - 1) < key ? half : 0;
    count -= half;
  }
  return first + (key_at(first) < key ? 1 : 0);
}

}  // namespace

FreeBlocks::Position FreeBlocks::lower_bound(int64_t size, int64_t address) const {
  const Key key = key_of(size, address);
  size_t run = 0;
  if (runs_.size() > 1) {
    run =
        count_below(runs_.size(), key, [&](size_t i) { return key_of(runs_[i].back().size, runs_[i].back().address); });
    if (run == runs_.size()) return end();
  }
  const Entry* entries = runs_[run].data();
  const size_t index =
      count_below(runs_[run].size(), key, [&](size_t i) { return key_of(entries[i].size, entries[i].address); });
  return index < runs_[run].size() ? Position{run, index} : end();
}

void FreeBlocks::insert(const Entry& entry) {
  Position at = lower_bound(entry.size, entry.address);
  if (at == end()) at = {runs_.size() - 1, runs_.back().size()};
  if (runs_[at.run].size() == kMaxRun) {
    auto& full = *runs_.insert(runs_.begin() + static_cast<ptrdiff_t>(at.run) + 1, std::vector<Entry>());
    std::vector<Entry>& kept = runs_[at.run];
    full.reserve(kMaxRun);
    full.assign(kept.begin() + kMaxRun / 2, kept.end());
    kept.resize(kMaxRun / 2);
    if (at.index > kMaxRun / 2) at = {at.run + 1, at.index - kMaxRun / 2};
  }
  std::vector<Entry>& entries = runs_[at.run];
  entries.insert(entries.begin() + static_cast<ptrdiff_t>(at.index), entry);
}

void FreeBlocks::erase(int64_t size, int64_t address) {
  const Position at = lower_bound(size, address);
  MMOE_CHECK(at != end() && (*this)[at].size == size && (*this)[at].address == address) << size << " at " << address;
  std::vector<Entry>& entries = runs_[at.run];
  entries.erase(entries.begin() + static_cast<ptrdiff_t>(at.index));
  if (entries.empty() && runs_.size() > 1) runs_.erase(runs_.begin() + static_cast<ptrdiff_t>(at.run));
}

}  // namespace mmoe
