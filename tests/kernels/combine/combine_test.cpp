#include "kernels/combine/combine.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/combine/combine_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

TEST(CombineReference, HandComputed) {
  const Array rows = Array::of(Scalar::kFloat32, {1, 2, 10, 20, 100, 200});
  const Array base = Array::of(Scalar::kFloat32, {0.5, 0.25, 0.5, 0.25});
  SharedVector<int32_t> row_of_pair = {2, 0, -1, 1};
  Array out(Scalar::kFloat32, 4);
  combine_reference({.rows = rows.data(),
                     .row_of_pair = row_of_pair.data(),
                     .base = base.data(),
                     .out = out.data(),
                     .num_tokens = 2,
                     .top_k = 2,
                     .size = 2});
  EXPECT_TRUE(out == Array::of(Scalar::kFloat32, {101.5, 202.25, 10.5, 20.25}));
}

TEST(ScatterAddRowsReference, HandComputed) {
  const Array rows = Array::of(Scalar::kFloat32, {1, 2, 10, 20, 5, 5});
  SharedVector<int32_t> token_of_row = {2, 0, -1};
  Array out(Scalar::kFloat32, 6, 1);
  scatter_add_rows_reference(
      {.rows = rows.data(), .token_of_row = token_of_row.data(), .out = out.data(), .num_rows = 3, .size = 2});
  EXPECT_TRUE(out == Array::of(Scalar::kFloat32, {11, 21, 1, 1, 2, 3}));
}

// Token t's slots j take the rows in a scattered order; every seventh slot is unused.
SharedVector<int32_t> scattered(int64_t num_tokens, int64_t top_k) {
  const int64_t pairs = num_tokens * top_k;
  SharedVector<int32_t> row_of_pair(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) {
    row_of_pair[static_cast<size_t>(i)] = i % 7 == 3 ? -1 : static_cast<int32_t>((i * 31 + 5) % pairs);
  }
  return row_of_pair;
}

using CombineTest = KernelTest;

TEST_P(CombineTest, MatchesReference) {
  const auto [version, scalar] = GetParam();
  for (const int64_t top_k : {1, 2, 6, 16}) {
    for (const int64_t size : {1, 5, 64, 1029, 2048}) {
      const int64_t num_tokens = 11;
      const SharedVector<int32_t> row_of_pair = scattered(num_tokens, top_k);
      const Array rows = Array::normal(scalar, num_tokens * top_k * size, 1);
      Array base = Array::normal(scalar, num_tokens * size, 2), want(scalar, num_tokens * size), got = want;
      Combine args{.scalar = scalar,
                   .rows = rows.data(),
                   .row_of_pair = row_of_pair.data(),
                   .base = base.data(),
                   .out = want.data(),
                   .num_tokens = num_tokens,
                   .top_k = top_k,
                   .size = size};
      combine_reference(args);
      args.out = got.data();
      MMOE_RUN(version, combine, args);
      EXPECT_TRUE(got == want) << "the order of the sum is fixed, so every version gives the same bits";
      args.out = base.data();
      MMOE_RUN(version, combine, args);
      EXPECT_TRUE(base == want) << "out may alias base";
      args.base = nullptr;
      args.out = want.data();
      combine_reference(args);
      args.out = got.data();
      MMOE_RUN(version, combine, args);
      EXPECT_TRUE(got == want) << "without base";
      args.num_tokens = 0;
      MMOE_RUN(version, combine, args);
    }
  }
}

TEST_P(CombineTest, PropagatesNanToItsTokenOnly) {
  const auto [version, scalar] = GetParam();
  Array rows(scalar, 2 * 3, 1), out(scalar, 2 * 3);
  rows.set(1, std::numeric_limits<double>::quiet_NaN());
  rows.set(2, std::numeric_limits<double>::infinity());
  SharedVector<int32_t> row_of_pair = {1, 0};
  MMOE_RUN(version, combine,
           (Combine{.scalar = scalar,
                    .rows = rows.data(),
                    .row_of_pair = row_of_pair.data(),
                    .out = out.data(),
                    .num_tokens = 2,
                    .top_k = 1,
                    .size = 3}));
  EXPECT_EQ(out.at(0), 1);
  EXPECT_EQ(out.at(1), 1);
  EXPECT_TRUE(std::isnan(out.at(4)) && std::isinf(out.at(5)));
}

TEST_P(CombineTest, ScatterAddMatchesReference) {
  const auto [version, scalar] = GetParam();
  for (const Scalar out_scalar : {scalar, accumulate(scalar)}) {
    for (const int64_t size : {1, 7, 64, 517}) {
      const int64_t num_tokens = 40, num_rows = 23;
      const Array rows = Array::normal(scalar, num_rows * size, 1);
      SharedVector<int32_t> token_of_row;
      for (int32_t r = 0; r < num_rows; ++r) token_of_row.push_back(r % 6 == 5 ? -1 : r * 7 % 40);
      Array want = Array::normal(out_scalar, num_tokens * size, 2), got = want;
      ScatterAddRows args{.scalar = scalar,
                          .out_scalar = out_scalar,
                          .rows = rows.data(),
                          .token_of_row = token_of_row.data(),
                          .out = want.data(),
                          .num_rows = num_rows,
                          .size = size};
      scatter_add_rows_reference(args);
      args.out = got.data();
      MMOE_RUN(version, scatter_add_rows, args);
      EXPECT_TRUE(got == want) << size;
      args.num_rows = 0;
      MMOE_RUN(version, scatter_add_rows, args);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, CombineTest, testing::ValuesIn(all_cases()), case_name);

TEST(CombineCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    const SharedVector<int32_t> row_of_pair = scattered(500, 6);
    const Array rows = Array::normal(Scalar::kBFloat16, 3000 * 48, 1);
    Array out(Scalar::kBFloat16, 500 * 48);
    combine_cpu({.scalar = Scalar::kBFloat16,
                 .rows = rows.data(),
                 .row_of_pair = row_of_pair.data(),
                 .out = out.data(),
                 .num_tokens = 500,
                 .top_k = 6,
                 .size = 48});
    return std::vector<Array>{out};
  });
}

}  // namespace
}  // namespace mmoe::kernels
