#pragma once
// What ranks tell each other beside collectives, through the key-value store: that all have come to a place, and why
// one cannot go on.

#include <chrono>
#include <cstdint>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

namespace mmoe {

class RankBoard {
 public:
  RankBoard(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world_size)
      : store_(std::move(store)), rank_(rank), world_size_(world_size) {}

  int64_t rank() const { return rank_; }
  int64_t world_size() const { return world_size_; }

  // Returns once every rank has called it as often; however long that takes. Throws RankLost as soon as one has failed.
  void meet();

  // Rank 0's `value`, on every rank.
  std::string from_first(const std::string& value);

  // For a rank that ends by an error of its own: the others name it.
  void report_failure(const std::string& cause);

  // For a rank to which others do not answer: after at most `patience`, what is known of them ("rank 2: out of
  // memory", "rank 3 does not answer"). The groups must have been left, so that their other ranks notice too.
  std::string what_happened(std::chrono::milliseconds patience);

 private:
  void check_failures();

  c10::intrusive_ptr<c10d::Store> store_;
  int64_t rank_, world_size_;
  int64_t meetings_ = 0;
};

}  // namespace mmoe
