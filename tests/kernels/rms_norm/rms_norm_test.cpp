#include "kernels/rms_norm/rms_norm.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/rms_norm/rms_norm_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

struct Shape {
  int64_t rows, vectors_per_row, size, extra;  // extra: elements of a strided row that belong to others
};
constexpr Shape kShapes[] = {{0, 1, 4, 0},   {1, 1, 1, 0},   {5, 1, 2, 3},    {7, 3, 16, 8},  {131, 1, 33, 0},
                             {70, 4, 64, 9}, {3, 1, 257, 1}, {300, 1, 96, 0}, {2, 1, 2049, 0}};

// Inputs, outputs and arguments of both passes.
struct Problem {
  Shape shape;
  Scalar scalar;
  int64_t vectors = shape.rows * shape.vectors_per_row;
  int64_t stride = shape.vectors_per_row * shape.size + shape.extra;
  int64_t elements = shape.rows * stride;
  Array x = Array::normal(scalar, elements, 1), weight = Array::normal(scalar, shape.size, 2);
  Array y{scalar, elements}, rstd{accumulate(scalar), vectors};
  Array dy = Array::normal(scalar, elements, 3), residual = Array::normal(scalar, elements, 4);
  Array dx{scalar, elements}, d_weight = Array::normal(accumulate(scalar), shape.size, 5);

  RmsNormForward forward() {
    return {.scalar = scalar,
            .x = x.data(),
            .weight = weight.data(),
            .y = y.data(),
            .rstd = rstd.data(),
            .num_vectors = vectors,
            .size = shape.size,
            .vectors_per_row = shape.vectors_per_row,
            .x_stride = stride,
            .y_stride = stride,
            .epsilon = 1e-5};
  }
  RmsNormBackward backward() {
    return {.scalar = scalar,
            .dy = dy.data(),
            .x = x.data(),
            .weight = weight.data(),
            .rstd = rstd.data(),
            .d_residual = residual.data(),
            .dx = dx.data(),
            .d_weight = d_weight.data(),
            .num_vectors = vectors,
            .size = shape.size,
            .vectors_per_row = shape.vectors_per_row,
            .dy_stride = stride,
            .x_stride = stride,
            .dx_stride = stride};
  }
};

TEST(RmsNormReference, HandComputed) {
  Problem p{{1, 1, 2, 0}, Scalar::kFloat64};
  p.x = Array::of(Scalar::kFloat64, {3, 4});
  p.weight = Array::of(Scalar::kFloat64, {1, 2});
  RmsNormForward forward = p.forward();
  forward.epsilon = 0;
  rms_norm_forward_reference(forward);
  EXPECT_NEAR(p.rstd.at(0), 1 / std::sqrt(12.5), 1e-16);  // mean of 9 and 16
  EXPECT_NEAR(p.y.at(0), 3 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(p.y.at(1), 8 / std::sqrt(12.5), 1e-15);
}

using RmsNorm = KernelTest;
using RmsNormGradient = KernelTest;  // float64 alone: differences need it

TEST_P(RmsNorm, ForwardMatchesReference) {
  const auto [version, scalar] = GetParam();
  for (const Shape& shape : kShapes) {
    Problem want{shape, scalar}, got{shape, scalar};
    rms_norm_forward_reference(want.forward());
    MMOE_RUN(version, rms_norm_forward, got.forward());
    // A sum of D squares is off by at most D roundoffs, its root by half of that; four more operations.
    const double computed = (0.5 * static_cast<double>(shape.size) + 4) * roundoff(accumulate(scalar));
    expect_close(got.y, want.y, rounded(scalar, computed), "y");
    expect_close(got.rstd, want.rstd, rounded(accumulate(scalar), computed), "rstd");
  }
}

TEST_P(RmsNorm, BackwardMatchesReference) {
  const auto [version, scalar] = GetParam();
  const double u = roundoff(accumulate(scalar));
  for (const Shape& shape : kShapes) {
    Problem want{shape, scalar}, got{shape, scalar};
    rms_norm_forward_reference(want.forward());
    got.rstd = want.rstd;
    rms_norm_backward_reference(want.backward());
    MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, got.backward());
    // |g - h mean(g h)| with g = dy weight, h = x rstd; the mean carries D roundoffs of its largest term.
    const double g = largest(want.dy) * largest(want.weight), r = largest(want.rstd), h = std::sqrt(shape.size);
    const double absolute = 2 * r * g * (1 + h * h) * static_cast<double>(shape.size + 8) * u;
    expect_close(got.dx, want.dx, rounded(scalar, 2 * u, absolute), "dx");
    // A sum of R terms of at most |dy| sqrt(D), each off by a few roundoffs, in two orders.
    const double terms = static_cast<double>(want.vectors);
    expect_close(got.d_weight, want.d_weight, {2 * (terms + 5) * u * (1 + terms * largest(want.dy) * h), 4 * u}, "dw");
  }
}

TEST_P(RmsNorm, WorksInPlaceAndWithoutOptionalArguments) {
  const auto [version, scalar] = GetParam();
  Problem want{{9, 1, 40, 0}, scalar}, got{{9, 1, 40, 0}, scalar};
  MMOE_RUN(version, rms_norm_forward, want.forward());
  RmsNormBackward plain = want.backward();
  plain.d_residual = nullptr;
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, plain);

  got.rstd = want.rstd;
  RmsNormBackward in_place = got.backward();
  in_place.d_residual = nullptr;
  in_place.dx = got.dy.data();
  in_place.d_weight = nullptr;
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, in_place);
  EXPECT_TRUE(got.dy == want.dx);

  Problem residual{{9, 1, 40, 0}, scalar}, aliased{{9, 1, 40, 0}, scalar};
  residual.rstd = aliased.rstd = want.rstd;
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, residual.backward());
  RmsNormBackward onto_residual = aliased.backward();
  onto_residual.dx = aliased.residual.data();
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, onto_residual);
  EXPECT_TRUE(aliased.residual == residual.dx);

  RmsNormForward forward = got.forward();
  forward.y = got.x.data();
  forward.rstd = nullptr;
  MMOE_RUN(version, rms_norm_forward, forward);
  EXPECT_TRUE(got.x == want.y);
}

TEST_P(RmsNorm, NanAndInfinityStayInTheirVector) {
  const auto [version, scalar] = GetParam();
  Problem p{{3, 1, 20, 0}, scalar};
  p.x.set(5, std::numeric_limits<double>::quiet_NaN());
  p.x.set(25, std::numeric_limits<double>::infinity());
  MMOE_RUN(version, rms_norm_forward, p.forward());
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, p.backward());
  for (int64_t d = 0; d < 20; ++d) {
    EXPECT_TRUE(std::isnan(p.y.at(d)) && std::isnan(p.dx.at(d))) << d;
    EXPECT_TRUE(std::isfinite(p.y.at(40 + d)) && std::isfinite(p.dx.at(40 + d))) << d;
  }
  EXPECT_TRUE(std::isnan(p.y.at(25)));  // inf * 0
}

TEST_P(RmsNormGradient, MatchesFiniteDifferences) {
  const auto [version, scalar] = GetParam();
  Problem p{{3, 2, 5, 2}, scalar};
  const auto loss = [&] {
    Problem& q = p;
    rms_norm_forward_reference(q.forward());
    double sum = 0;
    for (int64_t r = 0; r < q.vectors; ++r) {
      const int64_t start = r / 2 * q.stride + r % 2 * 5;
      for (int64_t d = start; d < start + 5; ++d) sum += q.y.at(d) * q.dy.at(d);
    }
    return sum;
  };
  loss();
  p.d_weight = Array(scalar, 5);
  RmsNormBackward backward = p.backward();
  backward.d_residual = nullptr;
  MMOE_RUN_WITH_WORKSPACE(version, rms_norm_backward, backward);
  const Array dx = p.dx, d_weight = p.d_weight;
  expect_gradient(p.x, dx, loss, "dx");
  expect_gradient(p.weight, d_weight, loss, "d_weight");
}

INSTANTIATE_TEST_SUITE_P(, RmsNorm, testing::ValuesIn(all_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(, RmsNormGradient, testing::ValuesIn(cases({Scalar::kFloat64})), case_name);

TEST(RmsNormCpu, ResultDoesNotDependOnThreadsOrAlignment) {
  expect_thread_independent([] {
    Problem p{{1000, 2, 96, 0}, Scalar::kFloat32};
    rms_norm_forward_cpu(p.forward());
    rms_norm_backward_cpu(p.backward());
    return std::vector<Array>{p.y, p.rstd, p.dx, p.d_weight};
  });
  Array x = Array::normal(Scalar::kFloat32, 200, 1), shifted(Scalar::kFloat32, 203), weight(Scalar::kFloat32, 200, 1);
  for (int64_t i = 0; i < 200; ++i) shifted.set(i + 3, x.at(i));
  Array y(Scalar::kFloat32, 200), z = y;
  RmsNormForward forward{.x = x.data(), .weight = weight.data(), .y = y.data(), .num_vectors = 1, .size = 200};
  rms_norm_forward_cpu(forward);
  forward.x = static_cast<const float*>(shifted.data()) + 3;
  forward.y = z.data();
  rms_norm_forward_cpu(forward);
  EXPECT_TRUE(y == z);
}

}  // namespace
}  // namespace mmoe::kernels
