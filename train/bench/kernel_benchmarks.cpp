#include "train/bench/kernel_benchmarks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/combine/combine.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/dispatch/dispatch.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gather/gather.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/router/router.h"
#include "kernels/swiglu/swiglu.h"
#include "sim/memory/chunks.h"
#include "train/ops/attention.h"
#include "train/ops/experts.h"
#include "train/ops/gemm.h"
#include "train/ops/pair_order.h"
#include "train/ops/parallel.h"

namespace mmoe::bench {
namespace {

using torch::autograd::variable_list;

at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().clone().set_requires_grad(true); }

// LibTorch's backward pass of outputs that were made once.
std::function<void()> aten_backward(variable_list outputs, variable_list inputs, variable_list cotangents) {
  return [=] { torch::autograd::grad(outputs, inputs, cotangents, /*retain_graph=*/true); };
}

// The list that benchmarks are added to, and what they share.
struct Bench {
  std::vector<KernelBenchmark>& all;
  LayerSize s;
  at::ScalarType type, wide;
  double element, wide_element;

  at::Tensor numbers(at::IntArrayRef shape) const { return at::randn(shape).to(type); }
  at::Tensor wide_numbers(at::IntArrayRef shape) const { return at::randn(shape).to(wide); }
  kernels::Scalar scalar() const { return kernel_scalar(at::empty({0}, type)); }
  kernels::Scalar wide_scalar() const { return kernel_scalar(at::empty({0}, wide)); }
};

void add_norm(Bench& b) {
  const int64_t T = b.s.num_tokens, D = b.s.hidden_size;
  const double activation = b.element * static_cast<double>(T * D);
  const at::Tensor x = b.numbers({T, D}), weight = b.numbers({D}), y = b.numbers({T, D}), dx = b.numbers({T, D});
  const at::Tensor rstd = b.wide_numbers({T}), d_weight = at::zeros({D}, b.wide), d_residual = b.numbers({T, D});
  b.all.push_back({.name = "rms_norm_forward",
                   .bytes = 2 * activation,
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::rms_norm_forward_cpu({.scalar = scalar,
                                                        .x = x.data_ptr(),
                                                        .weight = weight.data_ptr(),
                                                        .y = y.data_ptr(),
                                                        .rstd = rstd.data_ptr(),
                                                        .num_vectors = T,
                                                        .size = D,
                                                        .x_stride = D,
                                                        .y_stride = D});
                       },
                   .aten = [=] { at::rms_norm(x, {D}, weight, 1e-5); }});
  const at::Tensor x_leaf = leaf(x), weight_leaf = leaf(weight);
  // With the residual's gradient added.
  b.all.push_back(
      {.name = "rms_norm_backward",
       .bytes = 4 * activation,
       .run =
           [=, scalar = b.scalar()] {
             kernels::rms_norm_backward_cpu({.scalar = scalar,
                                             .dy = y.data_ptr(),
                                             .x = x.data_ptr(),
                                             .weight = weight.data_ptr(),
                                             .rstd = rstd.data_ptr(),
                                             .d_residual = d_residual.data_ptr(),
                                             .dx = dx.data_ptr(),
                                             .d_weight = d_weight.data_ptr(),
                                             .num_vectors = T,
                                             .size = D,
                                             .dy_stride = D,
                                             .x_stride = D,
                                             .dx_stride = D});
           },
       .aten = aten_backward({at::rms_norm(x_leaf, {D}, weight_leaf, 1e-5) + x_leaf}, {x_leaf, weight_leaf}, {y})});
}

void add_rope(Bench& b) {
  const int64_t T = b.s.num_tokens, h = b.s.head_dim, heads = b.s.num_heads + 2 * b.s.num_kv_heads;
  const int64_t rotated = b.s.num_heads + b.s.num_kv_heads, seq_len = b.s.seq_len;
  const RopeTable table = make_rope_table(10000, seq_len, h, b.type, c10::kCPU);
  const at::Tensor qkv = b.numbers({T, heads * h});
  b.all.push_back({.name = "rope",
                   .bytes = 2 * b.element * static_cast<double>(T * rotated * h),
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::rope_cpu({.scalar = scalar,
                                            .x = qkv.data_ptr(),
                                            .cos = table.cos.data_ptr(),
                                            .sin = table.sin.data_ptr(),
                                            .num_rows = T,
                                            .num_heads = heads,
                                            .num_rotated_heads = rotated,
                                            .head_dim = h,
                                            .seq_len = seq_len});
                       },
                   .aten =
                       [=] {
                         const at::Tensor x = qkv.view({-1, seq_len, heads, h}).narrow(2, 0, rotated);
                         const at::Tensor low = x.narrow(3, 0, h / 2), high = x.narrow(3, h / 2, h / 2);
                         const at::Tensor cos = table.cos.view({1, seq_len, 1, h / 2}).to(x.scalar_type());
                         const at::Tensor sin = table.sin.view({1, seq_len, 1, h / 2}).to(x.scalar_type());
                         at::cat({low * cos - high * sin, high * cos + low * sin}, 3);
                       }});
}

void add_router(Bench& b) {
  const int64_t T = b.s.num_tokens, E = b.s.num_experts, K = b.s.top_k;
  const at::Tensor logits = b.wide_numbers({T, E}), p = b.wide_numbers({T, E}), weights = b.wide_numbers({T, K});
  const at::Tensor log_sum_exp = b.wide_numbers({T}), mean = b.wide_numbers({E}), losses = b.wide_numbers({2});
  const at::Tensor d_weights = b.wide_numbers({T, K}), d_logits = b.wide_numbers({T, E});
  const at::Tensor indices = at::empty({T, K}, at::kInt), counts = at::empty({E}, at::kLong);
  const double pair = (b.wide_element + 4) * static_cast<double>(T * K);
  const double matrix = b.wide_element * static_cast<double>(T * E);
  const auto forward = [=, scalar = b.wide_scalar()] {
    kernels::router_forward_cpu({.scalar = scalar,
                                 .logits = logits.data_ptr(),
                                 .probabilities = p.data_ptr(),
                                 .indices = indices.data_ptr<int32_t>(),
                                 .weights = weights.data_ptr(),
                                 .log_sum_exp = log_sum_exp.data_ptr(),
                                 .counts = counts.data_ptr<int64_t>(),
                                 .mean_probability = mean.data_ptr(),
                                 .load_balance_loss = losses[0].data_ptr(),
                                 .z_loss = losses[1].data_ptr(),
                                 .num_tokens = T,
                                 .num_experts = E,
                                 .top_k = K,
                                 .normalization = kernels::GateNormalization::kSelected});
  };
  // Weights and the two auxiliary losses.
  const auto aten_forward = [E, K](const at::Tensor& of_logits) -> variable_list {
    const at::Tensor p_TE = of_logits.softmax(-1);
    const auto [p_TK, index_TK] = p_TE.topk(K);
    const at::Tensor share = at::bincount(index_TK.view({-1}), {}, E).to(p_TE.scalar_type()) / index_TK.numel();
    return {p_TK / p_TK.sum(1, true), (share * p_TE.mean(0)).sum() * E, of_logits.logsumexp(-1).square().mean()};
  };
  forward();
  b.all.push_back(
      {.name = "router_forward", .bytes = 2 * matrix + pair, .run = forward, .aten = [=] { aten_forward(logits); }});
  const at::Tensor logits_leaf = leaf(logits);
  const variable_list outputs = aten_forward(logits_leaf);
  b.all.push_back({.name = "router_backward",
                   .bytes = 2 * matrix + 2 * pair,
                   .run =
                       [=, scalar = b.wide_scalar()] {
                         kernels::router_backward_cpu({.scalar = scalar,
                                                       .probabilities = p.data_ptr(),
                                                       .indices = indices.data_ptr<int32_t>(),
                                                       .weights = weights.data_ptr(),
                                                       .log_sum_exp = log_sum_exp.data_ptr(),
                                                       .counts = counts.data_ptr<int64_t>(),
                                                       .d_weights = d_weights.data_ptr(),
                                                       .d_logits = d_logits.data_ptr(),
                                                       .num_tokens = T,
                                                       .num_experts = E,
                                                       .top_k = K,
                                                       .normalization = kernels::GateNormalization::kSelected,
                                                       .load_balance_coefficient = 0.01,
                                                       .z_loss_coefficient = 0.001});
                       },
                   .aten = aten_backward(
                       outputs, {logits_leaf},
                       {d_weights, at::empty_like(outputs[1]).fill_(0.01), at::empty_like(outputs[2]).fill_(0.001)})});
}

// K distinct experts of every token, drawn with the given odds.
at::Tensor draw_experts(const LayerSize& s, const at::Tensor& odds_E) {
  return odds_E.expand({s.num_tokens, s.num_experts}).multinomial(s.top_k).to(at::kInt);
}

// Rows of one expert, at most kExpertChunkRows of them: what the experts' CPU path works on at a time.
struct Chunk {
  int64_t expert, first, count;
};
std::vector<Chunk> chunks_of(const PairOrder& order) {
  std::vector<Chunk> chunks;
  const int64_t* offsets = order.offsets_E1.data_ptr<int64_t>();
  for (int64_t e = 0; e + 1 < order.offsets_E1.numel(); ++e) {
    for (int64_t first = offsets[e]; first < offsets[e + 1]; first += kExpertChunkRows) {
      chunks.push_back({e, first, std::min(kExpertChunkRows, offsets[e + 1] - first)});
    }
  }
  return chunks;
}

void add_moves(Bench& b) {
  const int64_t T = b.s.num_tokens, D = b.s.hidden_size, E = b.s.num_experts, K = b.s.top_k, R = T * K;
  const at::Tensor indices = draw_experts(b.s, at::ones({E}));
  const PairOrder order = order_pairs(indices, E, 1);
  const at::Tensor long_indices = indices.view({-1}).to(at::kLong);
  // Returns the token of each row.
  const auto aten_dispatch = [=] {
    at::bincount(long_indices, {}, E);
    const at::Tensor pair_of_row = long_indices.argsort(/*stable=*/true, 0, /*descending=*/false);
    pair_of_row.argsort();
    return pair_of_row.floor_divide(K);
  };
  // Reads the indices twice; writes the three maps.
  const double map_bytes = 5 * 4.0 * static_cast<double>(R);
  b.all.push_back({.name = "dispatch",
                   .bytes = map_bytes,
                   .run = [=] { order_pairs(indices, E, 1); },
                   .aten = [=] { aten_dispatch(); }});
  const at::Tensor x = b.numbers({T, D}), rows = b.numbers({R, D}), out = b.numbers({T, D});
  const at::Tensor token_of_row = order.token_of_row, long_tokens = token_of_row.to(at::kLong);
  const double row_bytes = b.element * static_cast<double>((T + R) * D);
  b.all.push_back({.name = "gather",
                   .bytes = row_bytes,
                   .run = [=] { gather_rows(x, token_of_row, 0, rows); },
                   .aten = [=] { x.index_select(0, long_tokens); }});
  // The whole way of the tokens to their experts.
  b.all.push_back({.name = "dispatch_and_gather",
                   .bytes = map_bytes + row_bytes,
                   .run = [=] { gather_rows(x, order_pairs(indices, E, 1).token_of_row, 0, rows); },
                   .aten = [=] { x.index_select(0, aten_dispatch()); }});
  b.all.push_back({.name = "combine",
                   .bytes = b.element * static_cast<double>((R + 2 * T) * D),
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::combine_cpu({.scalar = scalar,
                                               .rows = rows.data_ptr(),
                                               .row_of_pair = order.row_of_pair_TK.data_ptr<int32_t>(),
                                               .base = x.data_ptr(),
                                               .out = out.data_ptr(),
                                               .num_tokens = T,
                                               .top_k = K,
                                               .size = D});
                       },
                   .aten = [=] { x.index_add(0, long_tokens, rows); }});
  const at::Tensor sum = at::zeros({T, D}, b.wide);
  b.all.push_back({.name = "scatter_add",
                   .bytes = static_cast<double>(R * D) * b.element + 2 * b.wide_element * static_cast<double>(T * D),
                   .run =
                       [=, scalar = b.scalar(), wide = b.wide_scalar(), chunks = chunks_of(order)] {
                         for (const Chunk& chunk : chunks) {
                           kernels::scatter_add_rows_cpu(
                               {.scalar = scalar,
                                .out_scalar = wide,
                                .rows = rows.narrow(0, chunk.first, chunk.count).data_ptr(),
                                .token_of_row = token_of_row.data_ptr<int32_t>() + chunk.first,
                                .out = sum.data_ptr(),
                                .num_rows = chunk.count,
                                .size = D});
                         }
                       },
                   .aten = [=] { at::Tensor(sum).index_add_(0, long_tokens, rows.to(sum.scalar_type())); }});
}

void add_swiglu(Bench& b) {
  const int64_t F = b.s.expert_hidden_size, R = b.s.num_tokens * b.s.top_k;
  const PairOrder order = order_pairs(draw_experts(b.s, at::ones({b.s.num_experts})), b.s.num_experts, 1);
  const at::Tensor gate_up = b.numbers({R, 2 * F}), weights = b.wide_numbers({R}), a = b.numbers({R, F});
  const at::Tensor da = b.numbers({R, F}), d_gate_up = b.numbers({R, 2 * F}), d_weights = b.wide_numbers({R});
  const at::Tensor pairs = order.pair_of_row, long_pairs = pairs.to(at::kLong);
  const auto aten_forward = [long_pairs](const at::Tensor& x, const at::Tensor& w) {
    const std::vector<at::Tensor> halves = x.chunk(2, -1);
    return at::silu(halves[0]) * halves[1] * w.index_select(0, long_pairs).view({-1, 1}).to(x.scalar_type());
  };
  b.all.push_back({.name = "swiglu_forward",
                   .bytes = 3 * b.element * static_cast<double>(R * F),
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::swiglu_forward_cpu({.scalar = scalar,
                                                      .gate_up = gate_up.data_ptr(),
                                                      .weights = weights.data_ptr(),
                                                      .pair_of_row = pairs.data_ptr<int32_t>(),
                                                      .a = a.data_ptr(),
                                                      .num_rows = R,
                                                      .expert_hidden_size = F});
                       },
                   .aten = [=] { aten_forward(gate_up, weights); }});
  const at::Tensor gate_up_leaf = leaf(gate_up), weights_leaf = leaf(weights);
  b.all.push_back(
      {.name = "swiglu_backward",
       .bytes = 6 * b.element * static_cast<double>(R * F),
       .run =
           [=, scalar = b.scalar()] {
             kernels::swiglu_backward_cpu({.scalar = scalar,
                                           .da = da.data_ptr(),
                                           .gate_up = gate_up.data_ptr(),
                                           .weights = weights.data_ptr(),
                                           .pair_of_row = pairs.data_ptr<int32_t>(),
                                           .d_gate_up = d_gate_up.data_ptr(),
                                           .d_weights = d_weights.data_ptr(),
                                           .a = a.data_ptr(),
                                           .num_rows = R,
                                           .expert_hidden_size = F});
           },
       .aten = aten_backward({aten_forward(gate_up_leaf, weights_leaf)}, {gate_up_leaf, weights_leaf}, {da})});
}

void add_vocabulary(Bench& b) {
  const int64_t V = b.s.vocab_size, D = b.s.hidden_size, T = loss_chunk_rows(b.s.num_tokens, V);
  const at::Tensor logits = b.numbers({T, V}), loss = b.wide_numbers({T});
  const at::Tensor targets = at::randint(V, {T}, at::kInt), long_targets = targets.to(at::kLong);
  // Losses, and the logits' gradient in their place.
  b.all.push_back({.name = "cross_entropy",
                   .bytes = 2 * b.element * static_cast<double>(T * V),
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::cross_entropy_cpu({.scalar = scalar,
                                                     .logits = logits.data_ptr(),
                                                     .targets = targets.data_ptr<int32_t>(),
                                                     .loss = loss.data_ptr(),
                                                     .num_rows = T,
                                                     .vocab_size = V,
                                                     .stride = V});
                       },
                   .aten =
                       [=, wide = b.wide] {
                         const at::Tensor x = logits.detach().set_requires_grad(true);
                         const at::Tensor losses =
                             at::cross_entropy_loss(x.to(wide), long_targets, {}, at::Reduction::Sum);
                         torch::autograd::grad({losses}, {x});
                       }});
  const int64_t tokens = b.s.num_tokens;
  const at::Tensor dx = b.numbers({tokens, D}), d_weight = at::zeros({V, D}, b.wide);
  const at::Tensor ids = at::randint(V, {tokens}, at::kInt);
  b.all.push_back({.name = "embedding_backward",
                   .bytes = (b.element + 2 * b.wide_element) * static_cast<double>(tokens * D),
                   .run =
                       [=, scalar = b.scalar()] {
                         kernels::embedding_backward_cpu({.scalar = scalar,
                                                          .dx = dx.data_ptr(),
                                                          .tokens = ids.data_ptr<int32_t>(),
                                                          .d_weight = d_weight.data_ptr(),
                                                          .num_tokens = tokens,
                                                          .vocab_size = V,
                                                          .size = D});
                       },
                   .aten = [=] { at::Tensor(d_weight).add_(at::embedding_dense_backward(dx, ids, V, -1, false)); }});
}

// FLOPs of the scores that a causal mask leaves.
void add_attention(Bench& b) {
  const int64_t T = b.s.num_tokens, h = b.s.head_dim, H = b.s.num_heads, G = b.s.num_kv_heads, S = b.s.seq_len;
  const at::Tensor starts = at::arange(0, T + 1, S);
  const auto shapes = [=, scalar = b.scalar()] {
    return kernels::AttentionShapes{.scalar = scalar,
                                    .starts = starts.data_ptr<int64_t>(),
                                    .num_sequences = starts.numel() - 1,
                                    .num_heads = H,
                                    .num_kv_heads = G,
                                    .head_dim = h};
  };
  const at::Tensor qkv = b.numbers({T, (H + 2 * G) * h}), d_qkv = b.numbers({T, (H + 2 * G) * h});
  const at::Tensor out = b.numbers({T, H * h}), d_out = b.numbers({T, H * h}), log_sum_exp = b.wide_numbers({H, T});
  const auto product = static_cast<double>(T * (S + 1) * H * h);
  const double fused = static_cast<double>(qkv.numel()) * b.element,
               result = static_cast<double>(out.numel()) * b.element;
  // Heads of all sequences, [B, heads, S, h].
  const auto heads = [=](const at::Tensor& x, int64_t first, int64_t count) {
    return x.view({-1, S, x.size(1) / h, h}).narrow(2, first, count).transpose(1, 2);
  };
  const auto attend = [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return at::scaled_dot_product_attention(q, k, v, {}, 0, /*is_causal=*/true, std::nullopt, /*enable_gqa=*/H != G);
  };
  const at::Tensor q = heads(qkv, 0, H), k = heads(qkv, H, G), v = heads(qkv, H + G, G);
  b.all.push_back(
      {.name = "attention_forward",
       .bytes = fused + result,
       .flops = 2 * product,
       .run =
           [=] {
             kernels::attention_forward_cpu({shapes(), qkv.data_ptr(), out.data_ptr(), log_sum_exp.data_ptr()});
           },
       .aten = [=] { attend(q, k, v); }});
  const variable_list leaves = {leaf(q), leaf(k), leaf(v)};
  b.all.push_back({.name = "attention_backward",
                   .bytes = 2 * fused + 2 * result,
                   .flops = 5 * product,
                   .run =
                       [=] {
                         kernels::attention_backward_cpu({shapes(), qkv.data_ptr(), out.data_ptr(),
                                                          log_sum_exp.data_ptr(), d_out.data_ptr(), d_qkv.data_ptr()});
                       },
                   .aten = aten_backward({attend(leaves[0], leaves[1], leaves[2])}, leaves, {heads(d_out, 0, H)})});
}

// The experts' products as their CPU path makes them, chunk by chunk; and one product of as many FLOPs, the mark for
// them.
void add_products(Bench& b) {
  const int64_t D = b.s.hidden_size, E = b.s.num_experts, O = 2 * b.s.expert_hidden_size;
  const int64_t R = b.s.num_tokens * b.s.top_k;
  const double flops = 2.0 * static_cast<double>(R) * static_cast<double>(D) * static_cast<double>(O);
  const double activations = static_cast<double>(R * (D + O)) * b.element, weight = static_cast<double>(D * O);
  const at::Tensor weight_EOD = b.numbers({E, O, D}), grad_EOD = at::zeros({E, O, D}, b.wide);
  const at::Tensor rates = at::arange(1, E + 1, at::kFloat);
  // Zipf's law with exponent 1: the busiest expert has 1/H(E) of the pairs.
  for (const auto& [load, odds] : {std::pair("balanced", at::ones({E})), std::pair("zipf", rates.reciprocal())}) {
    const PairOrder order = order_pairs(draw_experts(b.s, odds), E, segment_alignment(b.type, false));
    const std::vector<Chunk> chunks = chunks_of(order);
    const int64_t rows = chunks.back().first + chunks.back().count;
    const at::Tensor x = b.numbers({rows, D}), y = b.numbers({rows, O});
    const at::Tensor ends = order.offsets_E1.slice(0, 1).to(at::kInt);
    b.all.push_back({.name = std::string("grouped_gemm_") + load,
                     .bytes = activations + static_cast<double>(E) * weight * b.element,
                     .flops = flops,
                     .run =
                         [=] {
                           for (const auto& [e, first, count] : chunks) {
                             product_into(y.narrow(0, first, count), x.narrow(0, first, count), weight_EOD[e].t());
                           }
                         },
                     .aten = [=] { at::_grouped_mm(x, weight_EOD.transpose(1, 2), ends); }});
    b.all.push_back({.name = std::string("grouped_gradient_") + load,
                     .bytes = activations + 2 * static_cast<double>(E) * weight * b.wide_element,
                     .flops = flops,
                     .run =
                         [=] {
                           for (const auto& [e, first, count] : chunks) {
                             add_weight_gradient(grad_EOD[e], y.narrow(0, first, count), x.narrow(0, first, count),
                                                 GradientSum::kContinue);
                           }
                         },
                     .aten = [=] { at::Tensor(grad_EOD).add_(at::_grouped_mm(y.t(), x, ends)); }});
  }
  const at::Tensor x = b.numbers({R, D}), weight_OD = weight_EOD[0];
  at::Tensor y = b.numbers({R, O});
  b.all.push_back({.name = "one_gemm",
                   .bytes = activations + weight * b.element,
                   .flops = flops,
                   .run = [=] { product_into(y, x, weight_OD.t()); },
                   .aten = [=]() mutable { at::mm_out(y, x, weight_OD.t()); }});
}

}  // namespace

std::vector<KernelBenchmark> kernel_benchmarks(at::ScalarType type, const LayerSize& size) {
  std::vector<KernelBenchmark> all;
  const at::ScalarType wide = accumulate_type(type);
  Bench bench{
      all, size, type, wide, static_cast<double>(c10::elementSize(type)), static_cast<double>(c10::elementSize(wide))};
  add_norm(bench);
  add_rope(bench);
  if (type != at::kDouble) add_attention(bench);
  add_router(bench);
  add_moves(bench);
  add_swiglu(bench);
  add_vocabulary(bench);
  add_products(bench);
  return all;
}

}  // namespace mmoe::bench
