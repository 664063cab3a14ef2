#pragma once
// The free blocks of one pool, ordered for best fit.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mmoe {

// An ordered set of blocks by (size, address). Kept as short sorted runs: an insertion moves at most one run, which on
// the tens to thousands of blocks of a training step beats a tree by its few cache lines.
class FreeBlocks {
 public:
  struct Entry {
    int64_t size;
    int64_t address;
    int32_t block;  // the owner's index
  };
  // Valid until the next insertion or removal.
  struct Position {
    size_t run;
    size_t index;
    bool operator==(const Position&) const = default;
  };

  void insert(const Entry& entry);
  // The entry must be there.
  void erase(int64_t size, int64_t address);
  // The first entry not below (size, address), or end().
  Position lower_bound(int64_t size, int64_t address) const;

  Position begin() const { return runs_.front().empty() ? end() : Position{0, 0}; }
  Position end() const { return {runs_.size(), 0}; }
  Position next(Position at) const {
    return at.index + 1 < runs_[at.run].size() ? Position{at.run, at.index + 1} : Position{at.run + 1, 0};
  }
  // Of a position after begin().
  Position previous(Position at) const {
    return at.index > 0 ? Position{at.run, at.index - 1} : Position{at.run - 1, runs_[at.run - 1].size() - 1};
  }
  const Entry& operator[](Position at) const { return runs_[at.run][at.index]; }

 private:
  std::vector<std::vector<Entry>> runs_ = std::vector<std::vector<Entry>>(1);  // only a lone run may be empty
};

}  // namespace mmoe
