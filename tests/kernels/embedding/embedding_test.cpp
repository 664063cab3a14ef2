#include "kernels/embedding/embedding.h"

#include <array>
#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/embedding/embedding_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

TEST(EmbeddingBackwardReference, HandComputed) {
  const Array dx = Array::of(Scalar::kFloat32, {1, 2, 3, 4, 5, 6, 7, 8});
  SharedVector<int32_t> tokens = {2, 0, 2, -1};
  Array d_weight(Scalar::kFloat32, 6, 1);
  embedding_backward_reference({.dx = dx.data(),
                                .tokens = tokens.data(),
                                .d_weight = d_weight.data(),
                                .num_tokens = 4,
                                .vocab_size = 3,
                                .size = 2});
  EXPECT_TRUE(d_weight == Array::of(Scalar::kFloat32, {4, 5, 1, 1, 7, 9}));
}

enum class Text { kUniform, kOneToken, kSkewed, kOutOfRange };

SharedVector<int32_t> text(int64_t T, int64_t V, Text kind) {
  std::mt19937_64 generator(static_cast<uint64_t>(T + V));
  std::uniform_real_distribution<double> law(0, 1);
  SharedVector<int32_t> tokens;
  for (int64_t t = 0; t < T; ++t) {
    const double draw = law(generator), share = kind == Text::kSkewed ? draw * draw * draw : draw;
    int32_t token = static_cast<int32_t>(share * static_cast<double>(V));
    if (kind == Text::kOneToken) token = static_cast<int32_t>(V - 1);
    if (kind == Text::kOutOfRange && t % 4 == 1) token = t % 8 == 1 ? -100 : static_cast<int32_t>(V);
    tokens.push_back(token);
  }
  return tokens;
}

using EmbeddingBackwardTest = KernelTest;

TEST_P(EmbeddingBackwardTest, EqualsReferenceBitForBit) {
  const auto [version, scalar] = GetParam();
  for (const Text kind : {Text::kUniform, Text::kOneToken, Text::kSkewed, Text::kOutOfRange}) {
    for (const auto& [T, V, D] : std::vector<std::array<int64_t, 3>>{
             {0, 5, 4}, {1, 1, 1}, {30, 7, 3}, {200, 600, 65}, {700, 40, 130}, {1300, 300000, 2}}) {
      const Array dx = Array::normal(scalar, T * D, 1);
      const SharedVector<int32_t> tokens = text(T, V, kind);
      Array want = Array::normal(accumulate(scalar), V * D, 2), got = want;
      EmbeddingBackward args{.scalar = scalar,
                             .dx = dx.data(),
                             .tokens = tokens.data(),
                             .d_weight = want.data(),
                             .num_tokens = T,
                             .vocab_size = V,
                             .size = D};
      embedding_backward_reference(args);
      args.d_weight = got.data();
      MMOE_RUN_WITH_WORKSPACE(version, embedding_backward, args);
      EXPECT_TRUE(got == want) << "additions come in the order of the tokens: the same bits";
    }
  }
}

TEST_P(EmbeddingBackwardTest, PropagatesNanToItsTokenOnly) {
  const auto [version, scalar] = GetParam();
  Array dx(scalar, 3, 1), d_weight(accumulate(scalar), 2);
  dx.set(1, std::numeric_limits<double>::quiet_NaN());
  SharedVector<int32_t> tokens = {0, 1, 0};
  const EmbeddingBackward args{.scalar = scalar,
                               .dx = dx.data(),
                               .tokens = tokens.data(),
                               .d_weight = d_weight.data(),
                               .num_tokens = 3,
                               .vocab_size = 2,
                               .size = 1};
  MMOE_RUN_WITH_WORKSPACE(version, embedding_backward, args);
  EXPECT_EQ(d_weight.at(0), 2);
  EXPECT_TRUE(std::isnan(d_weight.at(1)));
}

INSTANTIATE_TEST_SUITE_P(, EmbeddingBackwardTest, testing::ValuesIn(all_cases()), case_name);

TEST(EmbeddingBackwardCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    const Array dx = Array::normal(Scalar::kFloat32, 500 * 300, 1);
    const SharedVector<int32_t> tokens = text(500, 50, Text::kSkewed);
    Array d_weight(Scalar::kFloat32, 50 * 300);
    embedding_backward_cpu({.dx = dx.data(),
                            .tokens = tokens.data(),
                            .d_weight = d_weight.data(),
                            .num_tokens = 500,
                            .vocab_size = 50,
                            .size = 300});
    return std::vector<Array>{d_weight};
  });
}

}  // namespace
}  // namespace mmoe::kernels
