#include "train/ops/attention.h"

#include <ATen/ops/cat.h>

#include <numeric>

#include "tests/train/cpu_products_guard.h"
#include "tests/train/plain_reference.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  at::ScalarType type;
  QkNorm qk_norm;
  int64_t num_heads, num_kv_heads, head_dim, seq_len, batch;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Attention : public testing::TestWithParam<Case> {
 protected:
  const Case& c = GetParam();
  const AttentionShape shape{c.seq_len, c.num_heads, c.num_kv_heads, c.head_dim, c.qk_norm, 1e-5};
  const int64_t hidden = 20, tokens = c.batch * c.seq_len;
  const int64_t fused = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
  static constexpr double kTheta = 50;  // angles of order one at every dimension
};

TEST_P(Attention, ProjectionNormAndRotationMatchTheReference) {
  const bool full = c.qk_norm == QkNorm::kFull;
  Parameter projection = make_parameter(random_tensor({fused, hidden}, c.type, 1, 0.3));
  Parameter bias = make_parameter(random_tensor({fused}, c.type, 9));
  Parameter query_norm = make_parameter(random_tensor({full ? c.num_heads * c.head_dim : c.head_dim}, c.type, 2));
  Parameter key_norm = make_parameter(random_tensor({full ? c.num_kv_heads * c.head_dim : c.head_dim}, c.type, 3));
  const RopeTable table = make_rope_table(kTheta, c.seq_len, c.head_dim, c.type, c10::kCPU);
  // Models without norms of queries and keys are those that may have a bias.
  QkvWeights weights{&projection, &bias, nullptr, nullptr};
  OperationCase test;
  test.inputs = {random_tensor({tokens, hidden}, c.type, 4)};
  test.weights = {&projection, &bias};
  if (c.qk_norm != QkNorm::kNone) {
    weights = {&projection, nullptr, &query_norm, &key_norm};
    test.weights = {&projection, &query_norm, &key_norm};
  }
  test.operation = [&](const auto& in) {
    return std::vector<at::Tensor>{project_qkv(in[0], weights, table, shape, {0, 0})};
  };
  test.reference = [&](const auto& in, const auto& w) {
    const bool norms = w.size() == 3;
    return std::vector<at::Tensor>{norms ? plain::project_qkv(in[0], w[0], {}, w[1], w[2], shape, kTheta)
                                         : plain::project_qkv(in[0], w[0], w[1], {}, {}, shape, kTheta)};
  };
  // bf16 roundings: projection, norm, rotation, and as many backward.
  test.tolerance = tolerance(c.type, hidden + fused + tokens, 6);
  expect_matches_reference(test);
}

// By the kernel and by LibTorch.
void expect_both_match_reference(const OperationCase& test) {
  const CpuProductsGuard guard;
  for (const CpuProducts products : {CpuProducts::kKernel, CpuProducts::kLibrary}) {
    cpu_attention() = products;
    expect_matches_reference(test);
  }
}

TEST_P(Attention, CausalAttentionMatchesTheReference) {
  OperationCase test;
  test.inputs = {random_tensor({tokens, fused}, c.type, 5)};
  test.operation = [&](const auto& in) { return std::vector<at::Tensor>{attend(in[0], shape, {0, 0})}; };
  test.reference = [&](const auto& in, const auto&) { return std::vector<at::Tensor>{plain::attend(in[0], shape)}; };
  // bf16 roundings: scores, weights, result; backward the sum of the weights' gradients, their product with the
  // weights, and each of the three results.
  test.tolerance = tolerance(c.type, c.head_dim + 4 * c.seq_len, 8);
  expect_both_match_reference(test);
}

// The kernel takes nothing from the allocator: kept are the result and a number for each row of scores.
TEST(AttentionByKernel, TakesNoScratch) {
  const CpuProductsGuard guard;
  cpu_attention() = CpuProducts::kKernel;
  constexpr int64_t kBatch = 5, kSeqLen = 100, kHeads = 3, kHeadDim = 8, kTokens = kBatch * kSeqLen;
  const AttentionShape shape{kSeqLen, kHeads, kHeads, kHeadDim, QkNorm::kNone, 1e-5};
  const at::Tensor qkv = random_tensor({kTokens, 3 * kHeads * kHeadDim}, at::kBFloat16, 1).set_requires_grad(true);
  const int64_t before = counted_bytes();
  reset_counted_peak();
  const at::Tensor out = attend(qkv, shape, {0, 0});
  EXPECT_EQ(counted_bytes() - before, kTokens * kHeads * (kHeadDim * 2 + 4));
  EXPECT_EQ(counted_peak_bytes(), counted_bytes());
}

// Each document as a sequence of its own.
TEST_P(Attention, AttentionWithinDocumentsMatchesTheReference) {
  std::vector<int64_t> lengths;
  for (int64_t sequence = 0; sequence < c.batch; ++sequence) {
    int64_t rest = c.seq_len;
    for (int64_t length = 1 + sequence; length < rest; rest -= length, length += 2) lengths.push_back(length);
    lengths.push_back(c.seq_len - std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) + sequence * c.seq_len);
  }
  OperationCase test;
  test.inputs = {random_tensor({tokens, fused}, c.type, 5)};
  test.operation = [&](const auto& in) {
    return std::vector<at::Tensor>{attend_documents(in[0], lengths, shape, {0, 0})};
  };
  test.reference = [&](const auto& in, const auto&) {
    std::vector<at::Tensor> parts;
    int64_t first = 0;
    for (const int64_t length : lengths) {
      AttentionShape one = shape;
      one.seq_len = length;
      parts.push_back(plain::attend(in[0].narrow(0, first, length), one));
      first += length;
    }
    return std::vector<at::Tensor>{at::cat(parts)};
  };
  test.tolerance = tolerance(c.type, c.head_dim + 4 * c.seq_len, 8);
  expect_both_match_reference(test);
}

TEST_P(Attention, OutputProjectionMatchesTheReference) {
  const int64_t width = c.num_heads * c.head_dim;
  Parameter weight = make_parameter(random_tensor({hidden, width}, c.type, 6, 0.3));
  OperationCase test;
  test.inputs = {random_tensor({tokens, hidden}, c.type, 7), random_tensor({tokens, width}, c.type, 8)};
  test.weights = {&weight};
  test.operation = [&](const auto& in) {
    return std::vector<at::Tensor>{project_output(in[0], in[1], weight, {0, 0})};
  };
  test.reference = [](const auto& in, const auto& w) {
    return std::vector<at::Tensor>{in[0] + in[1].matmul(w[0].t())};
  };
  test.tolerance = tolerance(c.type, width + hidden + tokens, 2);
  expect_matches_reference(test);
}

INSTANTIATE_TEST_SUITE_P(, Attention,
                         testing::Values(Case{"plain_fp64", at::kDouble, QkNorm::kNone, 4, 4, 8, 9, 3},
                                         Case{"grouped_fp64", at::kDouble, QkNorm::kNone, 6, 2, 4, 16, 2},
                                         Case{"one_key_fp64", at::kDouble, QkNorm::kPerHead, 4, 1, 6, 11, 2},
                                         Case{"per_head_fp64", at::kDouble, QkNorm::kPerHead, 4, 2, 8, 13, 2},
                                         Case{"full_fp64", at::kDouble, QkNorm::kFull, 4, 2, 8, 13, 2},
                                         Case{"one_token_fp64", at::kDouble, QkNorm::kFull, 2, 2, 8, 1, 3},
                                         Case{"long_fp64", at::kDouble, QkNorm::kNone, 2, 1, 8, 130, 1},
                                         Case{"plain_fp32", at::kFloat, QkNorm::kNone, 4, 4, 8, 9, 3},
                                         Case{"per_head_fp32", at::kFloat, QkNorm::kPerHead, 4, 2, 8, 13, 2},
                                         Case{"full_fp32", at::kFloat, QkNorm::kFull, 4, 2, 8, 13, 2},
                                         Case{"beyond_the_kernel_fp32", at::kFloat, QkNorm::kNone, 2, 1, 260, 7, 1},
                                         Case{"plain_bf16", at::kBFloat16, QkNorm::kNone, 4, 4, 8, 9, 3},
                                         Case{"per_head_bf16", at::kBFloat16, QkNorm::kPerHead, 4, 2, 8, 13, 2},
                                         Case{"full_bf16", at::kBFloat16, QkNorm::kFull, 4, 2, 8, 13, 2}),
                         [](const auto& test) { return std::string(test.param.name); });

// Later tokens must not reach earlier results, whatever they hold.
TEST(CausalAttention, TheFutureDoesNotMatter) {
  const AttentionShape shape{12, 2, 1, 8, QkNorm::kNone, 0};
  const at::Tensor qkv = random_tensor({12, 32}, at::kDouble, 1);
  at::Tensor changed = qkv.clone();
  changed.narrow(0, 7, 5).mul_(-3);
  const at::Tensor a = attend(qkv, shape, {0, 0}), b = attend(changed, shape, {0, 0});
  EXPECT_TRUE(same_bits(a.narrow(0, 0, 7), b.narrow(0, 0, 7)));
  EXPECT_FALSE(same_bits(a.narrow(0, 7, 1), b.narrow(0, 7, 1)));
}

}  // namespace
}  // namespace mmoe
