#pragma once
// Live bytes and their high water, from all threads.

#include <atomic>
#include <cstdint>

namespace mmoe {

class ByteCounter {
 public:
  void add(int64_t bytes) {
    const int64_t now = live_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t peak = peak_.load(std::memory_order_relaxed);
    while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }
  void remove(int64_t bytes) { live_.fetch_sub(bytes, std::memory_order_relaxed); }

  int64_t live() const { return live_.load(); }
  int64_t peak() const { return peak_.load(); }  // since the last reset_peak()
  void reset_peak() { peak_.store(live_.load()); }

 private:
  std::atomic<int64_t> live_{0}, peak_{0};
};

}  // namespace mmoe
