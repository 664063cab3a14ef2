#include "kernels/dispatch/dispatch.h"

#include <array>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/dispatch/dispatch_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

struct Problem {
  int64_t T, K, E, alignment;
  SharedVector<int32_t> indices;
  int64_t capacity = dispatch_max_rows(T, K, E, alignment) + 3;
  SharedVector<int64_t> counts = SharedVector<int64_t>(static_cast<size_t>(E), -9);
  SharedVector<int64_t> offsets = SharedVector<int64_t>(static_cast<size_t>(E + 1), -9);
  SharedVector<int32_t> token_of_row = SharedVector<int32_t>(static_cast<size_t>(capacity), -9);
  SharedVector<int32_t> pair_of_row = SharedVector<int32_t>(static_cast<size_t>(capacity), -9);
  SharedVector<int32_t> row_of_pair = SharedVector<int32_t>(static_cast<size_t>(T * K), -9);

  Dispatch args() {
    return {.indices = indices.data(),
            .counts = counts.data(),
            .expert_offsets = offsets.data(),
            .token_of_row = token_of_row.data(),
            .pair_of_row = pair_of_row.data(),
            .row_of_pair = row_of_pair.data(),
            .num_tokens = T,
            .top_k = K,
            .num_experts = E,
            .alignment = alignment,
            .row_capacity = capacity};
  }
};

enum class Load { kUniform, kOneExpert, kFewExperts, kUnusedSlots };

// Distinct experts a token, as a router gives them, under several loads.
SharedVector<int32_t> indices(int64_t T, int64_t K, int64_t E, Load load) {
  std::mt19937_64 generator(static_cast<uint64_t>(T * 131 + K * 7 + E));
  SharedVector<int32_t> result;
  std::vector<int32_t> experts(static_cast<size_t>(E));
  for (int64_t e = 0; e < E; ++e) experts[static_cast<size_t>(e)] = static_cast<int32_t>(e);
  for (int64_t t = 0; t < T; ++t) {
    if (load != Load::kFewExperts) std::shuffle(experts.begin(), experts.end(), generator);
    for (int64_t j = 0; j < K; ++j) {
      const bool unused = load == Load::kUnusedSlots && (t + j) % 3 == 0;
      const int32_t e = load == Load::kOneExpert ? static_cast<int32_t>(E - 1) : experts[static_cast<size_t>(j)];
      result.push_back(unused ? -1 : e);
    }
  }
  return result;
}

TEST(DispatchReference, HandComputed) {
  Problem p{3, 2, 4, 4, {2, 0, 0, -1, 2, 3}};
  EXPECT_EQ(dispatch_reference(p.args()), 12);
  EXPECT_EQ(p.counts, (SharedVector<int64_t>{2, 0, 2, 1}));
  EXPECT_EQ(p.offsets, (SharedVector<int64_t>{0, 4, 4, 8, 12}));
  const auto padded = [&](SharedVector<int32_t> rows) {
    rows.resize(p.token_of_row.size(), -1);
    return rows;
  };
  EXPECT_EQ(p.token_of_row, padded({0, 1, -1, -1, 0, 2, -1, -1, 2}));
  EXPECT_EQ(p.pair_of_row, padded({1, 2, -1, -1, 0, 4, -1, -1, 5}));
  EXPECT_EQ(p.row_of_pair, (SharedVector<int32_t>{4, 0, 1, -1, 5, 8}));
}

TEST(DispatchMaxRows, IsReachedButNeverPassed) {
  EXPECT_EQ(dispatch_max_rows(0, 2, 4, 8), 0);
  EXPECT_EQ(dispatch_max_rows(10, 2, 4, 1), 20);
  for (int64_t pairs = 1; pairs < 40; ++pairs) {
    Problem p{pairs, 1, 5, 4, indices(pairs, 1, 5, Load::kUniform)};
    EXPECT_LE(dispatch_reference(p.args()), dispatch_max_rows(pairs, 1, 5, 4));
  }
  Problem worst{4, 1, 4, 8, {0, 1, 2, 3}};
  EXPECT_EQ(dispatch_reference(worst.args()), dispatch_max_rows(4, 1, 4, 8));
}

using DispatchTest = KernelTest;

TEST_P(DispatchTest, EqualsReference) {
  const Version version = GetParam().version;
  for (const Load load : {Load::kUniform, Load::kOneExpert, Load::kFewExperts, Load::kUnusedSlots}) {
    for (const int64_t alignment : {1, 16, 64}) {
      for (const auto& [T, K, E] : std::vector<std::array<int64_t, 3>>{
               {0, 2, 4}, {1, 1, 1}, {17, 1, 5}, {50, 4, 4}, {333, 6, 64}, {1500, 8, 60}, {700, 3, 512}}) {
        Problem want{T, K, E, alignment, indices(T, K, E, load)}, got{T, K, E, alignment, want.indices};
        const int64_t total = dispatch_reference(want.args());
        MMOE_RUN_WITH_WORKSPACE(version, dispatch, got.args());
        EXPECT_EQ(got.offsets.back(), total);
        EXPECT_EQ(got.counts, want.counts);
        EXPECT_EQ(got.offsets, want.offsets);
        EXPECT_EQ(got.token_of_row, want.token_of_row);
        EXPECT_EQ(got.pair_of_row, want.pair_of_row);
        EXPECT_EQ(got.row_of_pair, want.row_of_pair);
      }
    }
  }
}

TEST_P(DispatchTest, IndicesOutOfRangeGetNoRow) {
  const Version version = GetParam().version;
  Problem p{3, 1, 2, 1, {5, 1, -7}};
  MMOE_RUN_WITH_WORKSPACE(version, dispatch, p.args());
  EXPECT_EQ(p.row_of_pair, (SharedVector<int32_t>{-1, 0, -1}));
  EXPECT_EQ(p.offsets.back(), 1);
}

INSTANTIATE_TEST_SUITE_P(, DispatchTest, testing::ValuesIn(cases({Scalar::kFloat32})), case_name);

TEST(DispatchCpu, ResultDoesNotDependOnThreads) {
  Problem serial{20000, 4, 32, 16, indices(20000, 4, 32, Load::kUniform)};
  dispatch_cpu(serial.args());
  set_parallel_for(threaded_parallel_for);
  for (const int num_threads : {1, 2, 3}) {
    test_num_threads() = num_threads;
    Problem threaded{20000, 4, 32, 16, serial.indices};
    dispatch_cpu(threaded.args());
    EXPECT_EQ(threaded.pair_of_row, serial.pair_of_row);
    EXPECT_EQ(threaded.row_of_pair, serial.row_of_pair);
    EXPECT_EQ(threaded.offsets, serial.offsets);
  }
  set_parallel_for(nullptr);
}

}  // namespace
}  // namespace mmoe::kernels
