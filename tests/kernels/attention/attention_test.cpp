#include "kernels/attention/attention.h"

#include <cmath>
#include <limits>

#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/vector_unit_testing.h"

namespace mmoe::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Size {
  std::vector<int64_t> starts;
  int64_t num_heads, num_kv_heads, head_dim;

  int64_t tokens() const { return starts.back(); }
  int64_t width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
  int64_t group() const { return num_heads / num_kv_heads; }
};

// Inputs and results of both passes. The backward pass takes what a reference gave forward.
struct Problem {
  Problem(Scalar scalar, const Size& s)
      : size(s),
        qkv(Array::normal(scalar, s.tokens() * s.width(), 1)),
        out(scalar, s.tokens() * s.num_heads * s.head_dim),
        log_sum_exp(accumulate(scalar), s.num_heads * s.tokens()),
        d_out(Array::normal(scalar, out.size(), 2)),
        d_qkv(scalar, qkv.size(), kNan) {}

  AttentionShapes shapes() const {
    return {qkv.scalar(),   size.starts.data(), static_cast<int64_t>(size.starts.size()) - 1,
            size.num_heads, size.num_kv_heads,  size.head_dim};
  }
  AttentionForward forward() { return {shapes(), qkv.data(), out.data(), log_sum_exp.data()}; }
  AttentionBackward backward() {
    return {shapes(), qkv.data(), out.data(), log_sum_exp.data(), d_out.data(), d_qkv.data()};
  }

  // The same numbers in another type.
  Problem as(Scalar scalar) const {
    Problem other(scalar, size);
    const auto copy = [](const Array& from, Array& to) {
      for (int64_t i = 0; i < from.size(); ++i) to.set(i, from.at(i));
    };
    copy(qkv, other.qkv);
    copy(out, other.out);
    copy(log_sum_exp, other.log_sum_exp);
    copy(d_out, other.d_out);
    return other;
  }

  Size size;
  Array qkv, out, log_sum_exp, d_out, d_qkv;
};

// First-order bounds of the errors of an evaluation in fp32 (u = 2^-24, sums of n terms within n u: Higham 2002,
// section 3.1) whose probabilities and gradients of scores are rounded to `operand` before they are multiplied.
struct Bounds {
  Bounds(const Problem& exact, Scalar scalar)
      : out(static_cast<size_t>(exact.out.size())),
        log_sum_exp(static_cast<size_t>(exact.log_sum_exp.size())),
        d_qkv(static_cast<size_t>(exact.qkv.size())) {
    const Size& s = exact.size;
    const double u = 0x1p-24, stored = scalar == Scalar::kBFloat16 ? roundoff(scalar) : u;
    const double operand = scalar == Scalar::kBFloat16 ? roundoff(scalar) : 0;
    const auto h = static_cast<double>(s.head_dim), scale = 1 / std::sqrt(h);
    for (size_t sequence = 0; sequence + 1 < s.starts.size(); ++sequence) {
      const int64_t first = s.starts[sequence];
      const auto length = static_cast<double>(s.starts[sequence + 1] - first);
      for (int64_t head = 0; head < s.num_heads; ++head) {
        const int64_t q = head, k = s.num_heads + head / s.group(), v = k + s.num_kv_heads;
        const auto at = [&](int64_t token, int64_t part, int64_t d) {
          return token * s.width() + part * s.head_dim + d;
        };
        const auto at_out = [&](int64_t token, int64_t d) { return (token * s.num_heads + head) * s.head_dim + d; };
        const auto sum_over_head = [&](const auto& term) {
          double sum = 0;
          for (int64_t d = 0; d < s.head_dim; ++d) sum += term(d);
          return sum;
        };
        const auto x = [&](int64_t token, int64_t part, int64_t d) { return exact.qkv.at(at(token, part, d)); };
        for (int64_t i = first; i < s.starts[sequence + 1]; ++i) {
          const double lse = exact.log_sum_exp.at(head * s.tokens() + i);
          // Of a score and of the largest one taken off it.
          double argument = 0;
          std::vector<double> scores;
          for (int64_t j = first; j <= i; ++j) {
            scores.push_back(scale * sum_over_head([&](int64_t d) { return x(i, q, d) * x(j, k, d); }));
            const double magnitude =
                scale * sum_over_head([&](int64_t d) { return std::abs(x(i, q, d) * x(j, k, d)); });
            argument = std::max(argument, (h + 3) * u * magnitude + 4 * u * std::abs(scores.back()));
          }
          const double error = 2 * argument + (2 * length + 16) * u + operand;
          log_sum_exp[static_cast<size_t>(head * s.tokens() + i)] = argument + (length + 8) * u + u * std::abs(lse);
          const double delta =
              sum_over_head([&](int64_t d) { return exact.d_out.at(at_out(i, d)) * exact.out.at(at_out(i, d)); });
          const double delta_magnitude = sum_over_head(
              [&](int64_t d) { return std::abs(exact.d_out.at(at_out(i, d)) * exact.out.at(at_out(i, d))); });
          const double error_again = argument + 2 * u * std::abs(lse) + 12 * u + operand;
          const double terms = (length * static_cast<double>(s.group()) + 2) * u;
          for (int64_t j = first; j <= i; ++j) {
            const double p = std::exp(scores[static_cast<size_t>(j - first)] - lse);
            const auto product = [&](int64_t d) { return exact.d_out.at(at_out(i, d)) * x(j, v, d); };
            const double d_p = sum_over_head(product);
            const double d_p_magnitude = sum_over_head([&](int64_t d) { return std::abs(product(d)); });
            const double d_score = scale * p *
                                   ((std::abs(d_p) + std::abs(delta)) * (error_again + operand + terms) +
                                    (h + 2) * u * d_p_magnitude + delta_magnitude * ((h + 2) * u + stored));
            for (int64_t d = 0; d < s.head_dim; ++d) {
              out[static_cast<size_t>(at_out(i, d))] += p * std::abs(x(j, v, d)) * error;
              const auto add = [&](int64_t token, int64_t part, double bound) {
                d_qkv[static_cast<size_t>(at(token, part, d))] += bound;
              };
              add(j, v, p * std::abs(exact.d_out.at(at_out(i, d))) * (error_again + terms));
              add(i, q, d_score * std::abs(x(j, k, d)));
              add(j, k, d_score * std::abs(x(i, q, d)));
            }
          }
        }
      }
    }
  }

  std::vector<double> out, log_sum_exp, d_qkv;
};

// Within the bound and the rounding of the result, and a hundredth more for what is of second order.
void expect_within(const Array& got, const Array& want, const std::vector<double>& bounds, const std::string& what) {
  for (int64_t i = 0; i < want.size(); ++i) {
    const double bound = bounds[static_cast<size_t>(i)] + roundoff(got.scalar()) * std::abs(want.at(i));
    ASSERT_NEAR(got.at(i), want.at(i), 1.01 * bound) << what << '[' << i << ']';
  }
}

TEST(AttentionReference, HandComputed) {
  // One head of one element: q, k, v of a token one after another.
  Problem p(Scalar::kFloat64, {{0, 2, 3}, 1, 1, 1});
  p.qkv = Array::of(Scalar::kFloat64, {5, 1, 10, std::log(3.0), 2, 20, 7, 7, 30});
  attention_forward_reference(p.forward());
  const double weight =
      std::pow(3, 2.0) / (3 + std::pow(3, 2.0));  // of the second token's own value: scores ln 3, 2 ln 3
  EXPECT_NEAR(p.out.at(0), 10, 1e-14);
  EXPECT_NEAR(p.out.at(1), 10 * (1 - weight) + 20 * weight, 1e-14);
  EXPECT_NEAR(p.out.at(2), 30, 1e-14);
  EXPECT_NEAR(p.log_sum_exp.at(1), std::log(3 + 9.0), 1e-14);
  p.d_out = Array::of(Scalar::kFloat64, {0, 1, 0});
  attention_backward_reference(p.backward());
  const double d_score = weight * (1 - weight) * 10;
  EXPECT_NEAR(p.d_qkv.at(2), 1 - weight, 1e-14);
  EXPECT_NEAR(p.d_qkv.at(5), weight, 1e-14);
  EXPECT_NEAR(p.d_qkv.at(3), d_score * (2 - 1), 1e-13);
  EXPECT_NEAR(p.d_qkv.at(4), d_score * std::log(3.0), 1e-13);
  EXPECT_NEAR(p.d_qkv.at(1), -d_score * std::log(3.0), 1e-13);
  for (const int64_t untouched : {0, 6, 7, 8}) EXPECT_NEAR(p.d_qkv.at(untouched), 0, 1e-13);
}

TEST(AttentionReference, GradientsMatchFiniteDifferences) {
  Problem p(Scalar::kFloat64, {{0, 5, 6, 6, 9}, 4, 2, 3});
  attention_forward_reference(p.forward());
  attention_backward_reference(p.backward());
  const Array gradient = p.d_qkv;
  const auto loss = [&] {
    attention_forward_reference(p.forward());
    return dot(p.out, p.d_out);
  };
  expect_gradient(p.qkv, gradient, loss, "d_qkv");
}

class AttentionCpu : public VectorUnitTest {};

TEST_P(AttentionCpu, MatchesTheReference) {
  for (const Size& size : {Size{{0, 1}, 1, 1, 1}, Size{{0, 37, 40}, 4, 2, 24}, Size{{0, 5, 5, 48, 97}, 3, 3, 8},
                           Size{{0, 300}, 4, 1, 33}, Size{{0, 530}, 2, 1, 16}, Size{{0, 50, 99}, 2, 2, 256}}) {
    Problem got(scalar(), size);
    Problem want = got.as(Scalar::kFloat64);
    attention_forward_reference(want.forward());
    attention_backward_reference(want.backward());
    const Bounds bounds(want, scalar());
    attention_forward_cpu(got.forward());
    const std::string what = std::to_string(size.tokens()) + " tokens, ";
    expect_within(got.out, want.out, bounds.out, what + "out");
    expect_within(got.log_sum_exp, want.log_sum_exp, bounds.log_sum_exp, what + "log_sum_exp");
    got = want.as(scalar());
    attention_backward_cpu(got.backward());
    expect_within(got.d_qkv, want.d_qkv, bounds.d_qkv, what + "d_qkv");
  }
}

// Scores far above and below what exp holds, most of them for keys of later tiles than the first.
TEST_P(AttentionCpu, ShiftsLargeScores) {
  Problem got(scalar(), {{0, 300}, 1, 1, 4});
  for (int64_t i = 0; i < got.qkv.size(); ++i) {
    if (i % 12 < 8) got.qkv.set(i, 30 * got.qkv.at(i));
  }
  Problem want = got.as(Scalar::kFloat64);
  attention_forward_reference(want.forward());
  attention_forward_cpu(got.forward());
  expect_within(got.out, want.out, Bounds(want, scalar()).out, "out");
}

// A NaN or an infinity reaches the tokens that see it, of its sequence and the heads that share it.
TEST_P(AttentionCpu, PropagatesNanAndInfinity) {
  constexpr int64_t kTokens = 61, kFirst = 50;
  const Size size{{0, 13, kTokens}, 4, 2, 5};
  for (const double bad : {kNan, kInfinity}) {
    for (const int64_t part : {0, 4, 6}) {  // first heads of queries, keys, values
      Problem p(scalar(), size);
      for (int64_t d = 0; d < size.head_dim; ++d) p.qkv.set(kFirst * size.width() + part * size.head_dim + d, bad);
      attention_forward_cpu(p.forward());
      for (int64_t token = 0; token < kTokens; ++token) {
        for (int64_t head = 0; head < size.num_heads; ++head) {
          const bool sees = part == 0 ? head == 0 && token == kFirst : head < 2 && token >= kFirst;
          const double got = p.out.at((token * size.num_heads + head) * size.head_dim);
          // Within a tile a later value stands beside a weight of zero, which makes NaN of what is not finite.
          if (part == 6 && !sees && head < 2 && token >= 13) continue;
          if (!sees) {
            ASSERT_TRUE(std::isfinite(got)) << token << ' ' << head;
          }
          // An infinite score may be minus infinity, which is no weight.
          if (sees && (std::isnan(bad) || part == 6)) {
            ASSERT_FALSE(std::isfinite(got)) << token << ' ' << head;
          }
        }
      }
    }
  }
}

TEST_P(AttentionCpu, BitsDoNotDependOnThreads) {
  expect_thread_independent([&] {
    Problem p(scalar(), {{0, 70, 90, 300}, 4, 2, 12});
    attention_forward_cpu(p.forward());
    attention_backward_cpu(p.backward());
    return std::vector<Array>{p.out, p.log_sum_exp, p.d_qkv};
  });
}

TEST_P(AttentionCpu, SequencesDoNotSeeEachOther) {
  const auto run = [&](const std::vector<int64_t>& starts) {
    Problem p(scalar(), {starts, 2, 1, 8});
    attention_forward_cpu(p.forward());
    attention_backward_cpu(p.backward());
    return std::pair(p.out, p.d_qkv);
  };
  const auto [out, d_qkv] = run({0, 60});
  const auto [out_of_two, d_qkv_of_two] = run({0, 60, 110});
  for (int64_t i = 0; i < out.size(); ++i) ASSERT_EQ(out.at(i), out_of_two.at(i));
  // Of one seed the first draws of both are the same, those of d_out too.
  for (int64_t i = 0; i < d_qkv.size(); ++i) ASSERT_EQ(d_qkv.at(i), d_qkv_of_two.at(i));
}

INSTANTIATE_TEST_SUITE_P(, AttentionCpu, testing::ValuesIn(vector_unit_cases()), vector_unit_case_name);

}  // namespace
}  // namespace mmoe::kernels
