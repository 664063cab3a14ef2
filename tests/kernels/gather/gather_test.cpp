#include "kernels/gather/gather.h"

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/gather/gather_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

TEST(GatherReference, HandComputed) {
  const Array x = Array::of(Scalar::kFloat32, {1, 2, 3, 4});
  SharedVector<int32_t> index = {1, -1, 0};
  Array rows(Scalar::kFloat32, 6, 9);
  gather_reference({.x = x.data(), .index = index.data(), .rows = rows.data(), .num_rows = 3, .size = 2});
  EXPECT_TRUE(rows == Array::of(Scalar::kFloat32, {3, 4, 0, 0, 1, 2}));
}

using GatherTest = KernelTest;

TEST_P(GatherTest, EqualsReferenceBitForBit) {
  const auto [version, scalar] = GetParam();
  for (const int64_t size : {1, 3, 8, 33, 256, 1030}) {
    const Array x = Array::normal(scalar, 50 * size, 1);
    SharedVector<int32_t> index;
    for (int32_t r = 0; r < 77; ++r) index.push_back(r % 5 == 4 ? -1 : r * 7 % 50);
    Array want(scalar, 77 * size, 9), got = want;
    Gather args{
        .scalar = scalar, .x = x.data(), .index = index.data(), .rows = want.data(), .num_rows = 77, .size = size};
    gather_reference(args);
    args.rows = got.data();
    MMOE_RUN(version, gather, args);
    EXPECT_TRUE(got == want) << size;
    args.num_rows = 0;
    MMOE_RUN(version, gather, args);
  }
}

INSTANTIATE_TEST_SUITE_P(, GatherTest, testing::ValuesIn(all_cases()), case_name);

TEST(GatherCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    const Array x = Array::normal(Scalar::kFloat32, 100 * 64, 1);
    SharedVector<int32_t> index(1000);
    for (size_t r = 0; r < index.size(); ++r) index[r] = static_cast<int32_t>(r * 13 % 101) - 1;
    Array rows(Scalar::kFloat32, 1000 * 64);
    gather_cpu({.x = x.data(), .index = index.data(), .rows = rows.data(), .num_rows = 1000, .size = 64});
    return std::vector<Array>{rows};
  });
}

}  // namespace
}  // namespace mmoe::kernels
