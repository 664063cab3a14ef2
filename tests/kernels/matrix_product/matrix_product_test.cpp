#include "kernels/matrix_product/matrix_product.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/vector_unit_testing.h"

namespace mmoe::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

enum class Contiguous { kRows, kColumns };

// A matrix whose rows or columns are contiguous and lie `gap` elements further apart than they must.
class Matrix {
 public:
  Matrix(Scalar scalar, int64_t rows, int64_t columns, Contiguous contiguous, int64_t gap = 0)
      : rows_(rows),
        columns_(columns),
        row_stride_(contiguous == Contiguous::kRows ? columns + gap : 1),
        column_stride_(contiguous == Contiguous::kRows ? 1 : rows + gap),
        values_(scalar, contiguous == Contiguous::kRows ? rows * row_stride_ : columns * column_stride_, kNan) {}

  // Whole numbers of at most 3 in magnitude: sums of 10^6 products of two are exact in fp32 in any order.
  Matrix& fill_whole(uint64_t seed) {
    std::mt19937_64 generator(seed);
    return fill([&] { return static_cast<double>(generator() % 7) - 3; });
  }
  Matrix& fill_normal(uint64_t seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> law;
    return fill([&] { return law(generator); });
  }

  double at(int64_t i, int64_t j) const { return values_.at(i * row_stride_ + j * column_stride_); }
  void set(int64_t i, int64_t j, double value) { values_.set(i * row_stride_ + j * column_stride_, value); }
  Scalar scalar() const { return values_.scalar(); }
  MatrixView view() const { return view_from_row(0); }
  MatrixView view_from_row(int64_t i) const {
    const auto bytes = static_cast<int64_t>(size_of(scalar()));
    return {static_cast<const char*>(values_.data()) + i * row_stride_ * bytes, row_stride_, column_stride_};
  }

 private:
  template <class Draw>
  Matrix& fill(const Draw& draw) {
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = 0; j < columns_; ++j) set(i, j, draw());
    }
    return *this;
  }

  int64_t rows_, columns_, row_stride_, column_stride_;
  Array values_;
};

MatrixProduct product_of(const Matrix& a, const Matrix& b, int64_t rows, int64_t columns, int64_t depth) {
  return {.scalar = a.scalar(), .a = a.view(), .b = b.view(), .num_rows = rows, .num_columns = columns, .depth = depth};
}

struct Size {
  int64_t rows, columns, depth;
};
constexpr Size kSizes[] = {{1, 1, 1},   {1, 33, 7},    {5, 16, 32},    {12, 32, 64},   {13, 31, 33}, {32, 96, 100},
                           {3, 8, 513}, {257, 40, 96}, {40, 257, 31},  {25, 70, 1030}, {0, 8, 8},    {8, 0, 8},
                           {8, 40, 0},  {31, 17, 512}, {300, 300, 20}, {64, 64, 64}};
constexpr Contiguous kBoth[] = {Contiguous::kRows, Contiguous::kColumns};

// What becomes of the product.
enum class Result { kWritten, kAddedToBase, kAddedInPlace, kSumsBegin, kSumsContinue };
constexpr Result kResults[] = {Result::kWritten, Result::kAddedToBase, Result::kAddedInPlace, Result::kSumsBegin,
                               Result::kSumsContinue};

// Results of the reference and of the CPU version, their rows `gap` elements apart, where both must leave what was
// there.
struct Outcome {
  Array want, got;
};
Outcome run_both(MatrixProduct args, Result result, int64_t gap, uint64_t seed, bool whole) {
  const int64_t stride = args.num_columns + gap, size = args.num_rows * stride;
  const bool sums = result == Result::kSumsBegin || result == Result::kSumsContinue;
  const auto values = [&](Scalar scalar, uint64_t s) {
    Array array = Array::normal(scalar, size, s);
    for (int64_t i = 0; whole && i < size; ++i) array.set(i, std::round(array.at(i)));
    return array;
  };
  const Array base = values(args.scalar, seed);
  const Array before = values(sums ? Scalar::kFloat32 : args.scalar, seed + 1);
  Outcome outcome{before, before};
  const auto run = [&](Array& to, void (*version)(const MatrixProduct&)) {
    args.begins = result == Result::kSumsBegin;
    args.base_stride = args.out_stride = args.sums_stride = stride;
    if (sums) args.sums = static_cast<float*>(to.data());
    if (!sums) args.out = to.data();
    if (result == Result::kAddedToBase) args.base = base.data();
    if (result == Result::kAddedInPlace) args.base = args.out;
    version(args);
  };
  run(outcome.want, matrix_product_reference);
  run(outcome.got, matrix_product_cpu);
  return outcome;
}

TEST(MatrixProductReference, HandComputed) {
  Matrix a(Scalar::kBFloat16, 2, 3, Contiguous::kRows), b(Scalar::kBFloat16, 3, 1, Contiguous::kColumns);
  const double values[] = {1, 2, 3, -1, 0.5, 4};
  for (int64_t i = 0; i < 6; ++i) a.set(i / 3, i % 3, values[i]);
  for (int64_t i = 0; i < 3; ++i) b.set(i, 0, std::ldexp(1.0, static_cast<int>(i)));  // 1, 2, 4
  MatrixProduct args = product_of(a, b, 2, 1, 3);
  Array out(Scalar::kBFloat16, 2), base = Array::of(Scalar::kBFloat16, {0.5, 100});
  args.out = out.data();
  args.out_stride = args.base_stride = args.sums_stride = 1;
  matrix_product_reference(args);
  EXPECT_TRUE(out == Array::of(Scalar::kBFloat16, {17, 16}));
  args.base = base.data();
  matrix_product_reference(args);
  EXPECT_TRUE(out == Array::of(Scalar::kBFloat16, {17.5, 116}));
  Array sums = Array::of(Scalar::kFloat32, {1000, kNan});
  args.out = nullptr;
  args.sums = static_cast<float*>(sums.data());
  matrix_product_reference(args);
  EXPECT_EQ(sums.at(0), 1017);
  args.begins = true;
  matrix_product_reference(args);
  EXPECT_TRUE(sums == Array::of(Scalar::kFloat32, {17, 16}));
}

class MatrixProductCpu : public VectorUnitTest {};

TEST_P(MatrixProductCpu, HasTheBitsOfTheReferenceWhereSumsAreExact) {
  for (const auto& [rows, columns, depth] : kSizes) {
    for (const Contiguous a_order : kBoth) {
      for (const Contiguous b_order : kBoth) {
        const Matrix a = Matrix(scalar(), rows, depth, a_order, 3).fill_whole(1);
        const Matrix b = Matrix(scalar(), depth, columns, b_order, 5).fill_whole(2);
        for (const Result result : kResults) {
          const Outcome outcome = run_both(product_of(a, b, rows, columns, depth), result, 2, 3, /*whole=*/true);
          ASSERT_TRUE(outcome.got == outcome.want)
              << rows << ' ' << columns << ' ' << depth << ", orders " << static_cast<int>(a_order) << ' '
              << static_cast<int>(b_order) << ", result " << static_cast<int>(result);
        }
      }
    }
  }
}

// Each side's sum of K + 1 terms is within (K + 1) u of the sum of their magnitudes (Higham 2002, section 3.1), with
// u = 2^-24; bf16 results are rounded once more on both sides, to 2^-8 of what they are.
TEST_P(MatrixProductCpu, MatchesTheReferenceWithinTheRoundingOfSums) {
  constexpr int64_t kRows = 29, kColumns = 75, kDepth = 1100;
  const Matrix a = Matrix(scalar(), kRows, kDepth, Contiguous::kRows).fill_normal(1);
  const Matrix b = Matrix(scalar(), kDepth, kColumns, Contiguous::kColumns).fill_normal(2);
  for (const Result result : kResults) {
    const Outcome outcome = run_both(product_of(a, b, kRows, kColumns, kDepth), result, 0, 3, /*whole=*/false);
    const bool is_fp32 = outcome.got.scalar() == Scalar::kFloat32;
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        const double got = outcome.got.at(i * kColumns + j), want = outcome.want.at(i * kColumns + j);
        double magnitudes = 5;  // more than what is added to
        for (int64_t k = 0; k < kDepth; ++k) magnitudes += std::abs(a.at(i, k) * b.at(k, j));
        const double summed = 2 * (kDepth + 1) * 0x1p-24 * magnitudes;
        const double rounded = is_fp32 ? 0 : 0x1p-8 * (2 * std::abs(want) + summed);
        ASSERT_NEAR(got, want, summed + rounded) << i << ' ' << j << ", result " << static_cast<int>(result);
      }
    }
  }
}

// A row with a NaN, a column with an infinity (beside zeros: NaN); all else stays finite, in the last columns too.
TEST_P(MatrixProductCpu, PropagatesNanAndInfinity) {
  constexpr int64_t kRows = 14, kColumns = 35, kDepth = 70;
  for (const Contiguous order : kBoth) {
    Matrix a = Matrix(scalar(), kRows, kDepth, order).fill_normal(1),
           b = Matrix(scalar(), kDepth, kColumns, order).fill_normal(2);
    a.set(13, 69, kNan);
    a.set(3, 40, 0);
    b.set(40, 34, kInfinity);
    const Outcome outcome = run_both(product_of(a, b, kRows, kColumns, kDepth), Result::kWritten, 0, 3, false);
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        const double got = outcome.got.at(i * kColumns + j);
        const bool nan = i == 13 || (i == 3 && j == 34);
        ASSERT_EQ(std::isnan(got), nan) << i << ' ' << j;
        ASSERT_EQ(std::isinf(got), !nan && j == 34) << i << ' ' << j;
      }
    }
  }
}

TEST_P(MatrixProductCpu, SumsThatBeginForgetNan) {
  const Matrix a = Matrix(scalar(), 20, 600, Contiguous::kColumns).fill_whole(1);
  const Matrix b = Matrix(scalar(), 600, 40, Contiguous::kRows).fill_whole(2);
  Array want(Scalar::kFloat32, 800), got(Scalar::kFloat32, 800, kNan);
  MatrixProduct args = product_of(a, b, 20, 40, 600);
  args.sums_stride = 40;
  args.sums = static_cast<float*>(want.data());
  matrix_product_reference(args);
  args.begins = true;
  args.sums = static_cast<float*>(got.data());
  matrix_product_cpu(args);
  EXPECT_TRUE(got == want);
}

Array product_cpu(MatrixProduct args) {
  Array out(args.scalar, args.num_rows * args.num_columns);
  args.out = out.data();
  args.out_stride = args.num_columns;
  matrix_product_cpu(args);
  return out;
}

TEST_P(MatrixProductCpu, BitsDoNotDependOnThreads) {
  for (const auto& [rows, columns, depth] : {Size{300, 500, 700}, Size{128, 256, 256}, Size{600, 70, 64}}) {
    const Matrix a = Matrix(scalar(), rows, depth, Contiguous::kRows).fill_normal(1);
    const Matrix b = Matrix(scalar(), depth, columns, Contiguous::kColumns).fill_normal(2);
    expect_thread_independent([&] { return std::vector<Array>{product_cpu(product_of(a, b, rows, columns, depth))}; });
  }
}

TEST_P(MatrixProductCpu, BitsOfARowDoNotDependOnTheRowsBesideIt) {
  constexpr int64_t kRows = 290, kColumns = 45, kDepth = 900;
  const Matrix b = Matrix(scalar(), kDepth, kColumns, Contiguous::kColumns).fill_normal(2);
  for (const Contiguous order : kBoth) {
    const Matrix a = Matrix(scalar(), kRows, kDepth, order).fill_normal(1);
    const Array all = product_cpu(product_of(a, b, kRows, kColumns, kDepth));
    for (const int64_t first : {0, 7, 260}) {
      MatrixProduct args = product_of(a, b, 30, kColumns, kDepth);
      args.a = a.view_from_row(first);
      const Array some = product_cpu(args);
      for (int64_t i = 0; i < some.size(); ++i) ASSERT_EQ(some.at(i), all.at(first * kColumns + i)) << first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, MatrixProductCpu, testing::ValuesIn(vector_unit_cases()), vector_unit_case_name);

}  // namespace
}  // namespace mmoe::kernels
