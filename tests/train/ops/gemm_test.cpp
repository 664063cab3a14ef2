// Products by the kernel and by the library: against fp64, over the strides that the trainer's operations have.

#include "train/ops/gemm.h"

#include "tests/train/cpu_products_guard.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  at::ScalarType type;
  CpuProducts products;
};

class Gemm : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { cpu_bf16_products() = cpu_fp32_products() = c.products; }

  at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) const { return random_tensor(shape, c.type, seed); }
  // Sums of `terms` products and one more step: the final rounding, or that of a gradient before it is added.
  void expect_near(const at::Tensor& actual, const at::Tensor& expected, int64_t terms) const {
    EXPECT_EQ(actual.sizes(), expected.sizes());
    EXPECT_LE(relative_error(actual, expected), tolerance(c.type, terms, 2));
  }
  static at::Tensor exact(const at::Tensor& x, const at::Tensor& weight) {
    return x.to(at::kDouble).mm(weight.to(at::kDouble));
  }

  const Case& c = GetParam();
  const CpuProductsGuard guard;
};

TEST_P(Gemm, ProductsOfWhateverStrides) {
  const at::Tensor x = numbers({37, 50}, 1), weight = numbers({70, 50}, 2);
  const std::vector<std::pair<at::Tensor, at::Tensor>> factors = {
      {x, weight.t()},                                        // as forward
      {numbers({37, 70}, 3), weight},                         // as a gradient of the input
      {x.t(), numbers({37, 12}, 4)},                          // as a gradient of the weight
      {x.narrow(1, 10, 20), weight.narrow(1, 5, 20).t()},     // columns of wider ones
      {x.slice(1, 0, 50, 2), weight.slice(1, 0, 50, 2).t()},  // no contiguous side
      {numbers({1, 50}, 5).expand({37, 50}), weight.t()},     // one row for all
      {numbers({1, 1}, 6).expand({37, 50}), weight.t()},      // one number for all
      {numbers({37, 1}, 7), numbers({1, 9}, 8)},              // a column by a row
      {numbers({1, 37}, 9), x},
      {x, numbers({1, 50}, 10).t()},
      {x.narrow(0, 0, 0), weight.t()}};
  for (const auto& [a, b] : factors) {
    const at::Tensor expected = exact(a, b);
    const int64_t terms = a.size(1);
    expect_near(product(a, b), expected, terms);
    const at::Tensor wide = numbers({a.size(0), b.size(1) + 3}, 11);
    product_into(wide.narrow(1, 2, b.size(1)), a, b);
    expect_near(wide.narrow(1, 2, b.size(1)), expected, terms);
    const at::Tensor base = numbers({a.size(0), b.size(1)}, 12), row = numbers({b.size(1)}, 13);
    expect_near(sum_with_product(base, a, b), base.to(at::kDouble) + expected, terms);
    expect_near(sum_with_product(row, a, b), row.to(at::kDouble) + expected, terms);
    const at::Tensor sum = base.clone();
    add_product_to(sum, a, b);
    expect_near(sum, base.to(at::kDouble) + expected, terms);
  }
}

TEST_P(Gemm, WeightGradientsBeginAndGoOn) {
  const at::Tensor d_out = numbers({41, 30}, 1), x = numbers({41, 22}, 2);
  const at::Tensor once = exact(d_out.t(), x);
  at::Tensor grad = at::empty({30, 22}, x.options().dtype(accumulate_type(c.type)));
  grad.fill_(std::numeric_limits<double>::quiet_NaN());
  add_weight_gradient(grad, d_out, x, GradientSum::kBegin);
  expect_near(grad, once, 41);
  add_weight_gradient(grad, d_out, x, GradientSum::kContinue);
  expect_near(grad, 2 * once, 41);
}

INSTANTIATE_TEST_SUITE_P(, Gemm,
                         testing::Values(Case{"fp64", at::kDouble, CpuProducts::kLibrary},
                                         Case{"fp32_by_kernel", at::kFloat, CpuProducts::kKernel},
                                         Case{"fp32_by_library", at::kFloat, CpuProducts::kLibrary},
                                         Case{"bf16_by_kernel", at::kBFloat16, CpuProducts::kKernel},
                                         Case{"bf16_by_library", at::kBFloat16, CpuProducts::kLibrary}),
                         [](const auto& test) { return std::string(test.param.name); });

// The kernel takes nothing from the allocator and rounds a gradient nowhere: sums of whole numbers are exact where
// those formed in bf16 are not.
TEST(GemmByKernel, WeightGradientsAreFormedInTheAccumulateType) {
  const CpuProductsGuard guard;
  cpu_bf16_products() = CpuProducts::kKernel;
  const at::Tensor d_out = random_tensor({300, 64}, at::kBFloat16, 1, 3).round();
  const at::Tensor x = random_tensor({300, 96}, at::kBFloat16, 2, 3).round();
  const at::Tensor grad = at::empty({64, 96}, at::TensorOptions().dtype(at::kFloat));
  const int64_t before = counted_bytes();
  reset_counted_peak();
  add_weight_gradient(grad, d_out, x, GradientSum::kBegin);
  EXPECT_EQ(counted_peak_bytes(), before);
  EXPECT_TRUE(grad.to(at::kDouble).equal(d_out.to(at::kDouble).t().mm(x.to(at::kDouble))));
}

}  // namespace
}  // namespace mmoe
