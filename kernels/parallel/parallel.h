#pragma once
// The CPU versions own no threads: whoever has a pool installs it here, without one everything runs serially.
// No result depends on the number of threads, because no order of a sum does.

#include <cstdint>

namespace mmoe::kernels {

// Splits [begin, end) into ranges of at least `grain` (the last may be shorter), calls body(context, b, e) on each,
// possibly concurrently, and returns when all are done.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, void* context,
                             void (*body)(void* context, int64_t begin, int64_t end));

namespace internal {
inline ParallelFor installed_parallel_for = nullptr;
}

// Installs the pool; null means serial. Not to be called while a kernel runs.
inline void set_parallel_for(ParallelFor parallel_for) { internal::installed_parallel_for = parallel_for; }

// Runs body(int64_t begin, int64_t end) over [begin, end) in parallel; ranges are at least `grain` long.
template <class Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  if (begin >= end) return;
  if (internal::installed_parallel_for == nullptr || end - begin <= grain) {
    body(begin, end);
    return;
  }
  internal::installed_parallel_for(
      begin, end, grain, const_cast<void*>(static_cast<const void*>(&body)),
      [](void* context, int64_t b, int64_t e) { (*static_cast<const Body*>(context))(b, e); });
}

// Rows per range such that a range moves at least 32 KiB: below that, waking a thread costs more than it saves.
constexpr int64_t rows_grain(int64_t bytes_per_row) {
  const int64_t rows = 32768 / (bytes_per_row > 0 ? bytes_per_row : 1);
  return rows > 1 ? rows : 1;
}

}  // namespace mmoe::kernels
