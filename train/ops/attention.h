#pragma once
// Causal self-attention in three operations: projection with RoPE, scaled dot products, output projection.
// Dims: T = B * S tokens (B sequences of length S), D hidden size, H query and G key-value heads of size h, A = H h,
// C = (H + 2G) h. Tensor and context parallel ranks hold equal parts of the heads and, outside of attention, of the
// tokens.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sim/config/model_config.h"
#include "train/model/parameters.h"
#include "train/parallel/communicator.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

// Heads are those of this rank in attention.
struct AttentionShape {
  int64_t seq_len = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  QkNorm qk_norm = QkNorm::kNone;
  double rms_norm_eps = 0;
};

// cos and sin, [S, h/2] in the accumulate type.
struct RopeTable {
  at::Tensor cos, sin;
};
RopeTable make_rope_table(double theta, int64_t seq_len, int64_t head_dim, at::ScalarType type, c10::Device device);

// Null norms where qk_norm is none.
struct QkvWeights {
  const Parameter* projection_CD = nullptr;
  const Parameter* bias_C = nullptr;      // null without one
  const Parameter* query_norm = nullptr;  // [h] per head, [H h] full
  const Parameter* key_norm = nullptr;    // [h] per head, [G h] full
  const Communicator* tensor = nullptr;   // the ranks that hold the other heads' weights; null: none
  const Communicator* context = nullptr;  // the ranks that hold other tokens and the same weights; null: none
};

// Normalised and rotated queries and keys, and values, fused: [T, C] of this rank's tokens [T / ranks, D]. Keeps its
// input and, with qk_norm, the queries and keys before it. The backward pass overwrites the incoming gradient.
at::Tensor project_qkv(const at::Tensor& x_TD, const QkvWeights& weights, const RopeTable& rope,
                       const AttentionShape& shape, Place place);

// Causal: on CPUs by the kernel, of fp64, large heads, with AMX (sim/memory/cpu_products.h) and on GPUs by LibTorch's
// scaled_dot_product_attention. Keeps qkv, its result and the scores' log-sum-exp.
at::Tensor attend(const at::Tensor& qkv_TC, const AttentionShape& shape, Place place);

// The same within each of consecutive documents, whose lengths sum to T; none crosses a sequence's end. Rotary
// positions need no reset, since scores depend on their differences alone. By LibTorch it keeps its result twice: by
// document, and together.
at::Tensor attend_documents(const at::Tensor& qkv_TC, const std::vector<int64_t>& document_lengths,
                            const AttentionShape& shape, Place place);

// Keys and values of one sequence, [G, capacity, h] each.
struct KeysAndValues {
  at::Tensor key_GSh, value_GSh;
};

// Attention of T tokens that follow the `length` ones whose keys and values are in `past`; theirs are put behind them.
// Either T = 1 or length = 0. Inference only.
at::Tensor attend_cached(const at::Tensor& qkv_TC, const AttentionShape& shape, const KeysAndValues& past,
                         int64_t length);

// residual_TD + attended_TA weight_DA^T, summed over the heads of all `tensor` and `context` ranks, of which each gets
// its tokens: then residual and result are [T / ranks, D]. Keeps attended.
at::Tensor project_output(const at::Tensor& residual_TD, const at::Tensor& attended_TA, const Parameter& weight_DA,
                          Place place, const Communicator* tensor = nullptr, const Communicator* context = nullptr);

}  // namespace mmoe
