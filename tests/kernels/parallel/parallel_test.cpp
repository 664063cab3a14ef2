#include "kernels/parallel/parallel.h"

#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {
namespace {

TEST(ParallelFor, CoversTheRangeOnceWithAndWithoutThreads) {
  for (const ParallelFor pool : {ParallelFor{nullptr}, ParallelFor{threaded_parallel_for}}) {
    set_parallel_for(pool);
    test_num_threads() = 3;
    std::vector<int> visits(1000, 0);
    parallel_for(3, 997, 7, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
    });
    set_parallel_for(nullptr);
    for (size_t i = 0; i < visits.size(); ++i) EXPECT_EQ(visits[i], i >= 3 && i < 997 ? 1 : 0) << i;
  }
}

TEST(ParallelFor, DoesNotCallTheBodyForAnEmptyRange) {
  parallel_for(5, 5, 1, [](int64_t, int64_t) { FAIL(); });
}

TEST(ParallelFor, RowsGrainIsAtLeastOne) {
  EXPECT_EQ(rows_grain(1 << 30), 1);
  EXPECT_EQ(rows_grain(0), 32768);
  EXPECT_EQ(rows_grain(1024), 32);
}

}  // namespace
}  // namespace mmoe::kernels
