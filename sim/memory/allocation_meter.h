#pragma once
// Follows a sequence of allocations and remembers what was alive at the highest point.

#include <array>
#include <string>

namespace mmoe {

enum class MemoryCause { kActivations, kLogits, kWorkspace };
inline constexpr int kNumMemoryCauses = 3;

using BytesByCause = std::array<double, kNumMemoryCauses>;

inline double sum_of(const BytesByCause& bytes) { return bytes[0] + bytes[1] + bytes[2]; }

class AllocationMeter {
 public:
  void allocate(double bytes, MemoryCause cause = MemoryCause::kActivations) {
    live_[static_cast<int>(cause)] += bytes;
    if (sum_of(live_) > sum_of(peak_)) peak_ = live_;
  }
  void free(double bytes, MemoryCause cause = MemoryCause::kActivations) { live_[static_cast<int>(cause)] -= bytes; }
  // Allocated and freed again before anything else happens.
  void touch(double bytes, MemoryCause cause = MemoryCause::kWorkspace) {
    allocate(bytes, cause);
    free(bytes, cause);
  }

  double live() const { return sum_of(live_); }
  const BytesByCause& peak() const { return peak_; }

 private:
  BytesByCause live_{}, peak_{};
};

}  // namespace mmoe
