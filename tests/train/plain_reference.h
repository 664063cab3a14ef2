#pragma once
// The model written down in elementary tensor operations, nothing tuned, differentiated by LibTorch: what the trainer's
// operations are compared with. Dims as in train/ops; B sequences of length S, T = B S.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "train/ops/attention.h"
#include "train/ops/router.h"

namespace mmoe::plain {

inline at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * (x.pow(2).mean({-1}, /*keepdim=*/true) + epsilon).rsqrt() * weight;
}

// gate_up [2F, D], down [D, F].
inline at::Tensor mlp(const at::Tensor& x_TD, const at::Tensor& gate_up, const at::Tensor& down) {
  const std::vector<at::Tensor> halves = x_TD.matmul(gate_up.t()).chunk(2, -1);
  return (halves[0] * halves[0].sigmoid() * halves[1]).matmul(down.t());
}

struct Routed {
  at::Tensor weights_TK, indices_TK;  // by falling probability; 0 and -1 in unused slots
  at::Tensor dense_TE;                // the weights by expert, 0 where not selected
  at::Tensor counts_E, load_balance_loss, z_loss;
  at::Tensor entropy;  // mean over tokens
};

inline Routed route(const at::Tensor& x_TD, const at::Tensor& weight_ED, const RouterSettings& settings) {
  const at::Tensor logits_TE = x_TD.matmul(weight_ED.t());
  const at::Tensor p_TE = logits_TE.softmax(-1);
  const auto [sorted_TE, order_TE] = p_TE.sort(/*dim=*/-1, /*descending=*/true);
  const int64_t top_k = settings.top_k;
  const at::Tensor p_TK = sorted_TE.narrow(1, 0, top_k), index_TK = order_TE.narrow(1, 0, top_k);
  at::Tensor used_TK = p_TK.detach().gt(-1);
  // Slot j is used while the slots before it have not reached top_p.
  if (settings.top_p > 0) used_TK = (p_TK.cumsum(1) - p_TK).detach().lt(settings.top_p);
  Routed result;
  result.weights_TK = p_TK * used_TK;
  if (settings.normalization == kernels::GateNormalization::kSelected) {
    result.weights_TK = result.weights_TK / result.weights_TK.sum(1, /*keepdim=*/true);
  } else if (settings.normalization == kernels::GateNormalization::kReference) {
    result.weights_TK = result.weights_TK / sorted_TE.narrow(1, 0, settings.k_reference).sum(1, /*keepdim=*/true);
  }
  result.indices_TK = index_TK.masked_fill(used_TK.logical_not(), -1);
  result.dense_TE = at::zeros(p_TE.sizes(), p_TE.options()).scatter_add(1, index_TK, result.weights_TK);
  result.counts_E =
      at::zeros(p_TE.sizes(), p_TE.options()).scatter_add(1, index_TK, used_TK.to(p_TE.scalar_type())).sum(0);
  const auto experts = static_cast<double>(p_TE.size(1));
  result.load_balance_loss = (result.counts_E / result.counts_E.sum() * p_TE.mean(0)).sum() * experts;
  result.z_loss = logits_TE.logsumexp(-1).pow(2).mean();
  result.entropy = -(p_TE * logits_TE.log_softmax(-1)).sum(-1).mean();
  return result;
}

// Every expert on every token, weighted. gate_up [E, 2F, D], down [E, D, F].
inline at::Tensor experts(const at::Tensor& x_TD, const at::Tensor& dense_TE, const at::Tensor& gate_up,
                          const at::Tensor& down) {
  at::Tensor out_TD = at::zeros(x_TD.sizes(), x_TD.options());
  for (int64_t e = 0; e < down.size(0); ++e) {
    out_TD = out_TD + dense_TE.narrow(1, e, 1) * mlp(x_TD, gate_up[e], down[e]);
  }
  return out_TD;
}

// x [B, S, heads, h], half-split convention.
inline at::Tensor rope(const at::Tensor& x, double theta) {
  const int64_t half = x.size(3) / 2;
  const at::Tensor frequency =
      at::arange(half, x.options()).mul(-2.0 / static_cast<double>(x.size(3)) * std::log(theta)).exp();
  const at::Tensor angle = at::arange(x.size(1), x.options()).view({-1, 1}).mul(frequency).view({1, -1, 1, half});
  const at::Tensor low = x.narrow(3, 0, half), high = x.narrow(3, half, half);
  return at::cat({low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()}, 3);
}

// Undefined norms where qk_norm is none. Returns [T, C] as project_qkv does.
inline at::Tensor project_qkv(const at::Tensor& x_TD, const at::Tensor& weight_CD, const at::Tensor& bias_C,
                              const at::Tensor& query_norm, const at::Tensor& key_norm, const AttentionShape& shape,
                              double theta) {
  const int64_t query_size = shape.num_heads * shape.head_dim, key_size = shape.num_kv_heads * shape.head_dim;
  const at::Tensor product_TC = x_TD.matmul(weight_CD.t());
  const at::Tensor qkv_TC = bias_C.defined() ? product_TC + bias_C : product_TC;
  const auto part = [&](int64_t first, int64_t size, const at::Tensor& norm) {
    at::Tensor x = qkv_TC.narrow(1, first, size);
    if (shape.qk_norm == QkNorm::kFull) x = rms_norm(x, norm, shape.rms_norm_eps);
    x = x.reshape({-1, shape.seq_len, size / shape.head_dim, shape.head_dim});
    if (shape.qk_norm == QkNorm::kPerHead) x = rms_norm(x, norm, shape.rms_norm_eps);
    return rope(x, theta).reshape({-1, size});
  };
  return at::cat({part(0, query_size, query_norm), part(query_size, key_size, key_norm),
                  qkv_TC.narrow(1, query_size + key_size, key_size)},
                 1);
}

inline at::Tensor attend(const at::Tensor& qkv_TC, const AttentionShape& shape) {
  const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads;
  const at::Tensor fused =
      qkv_TC.view({-1, shape.seq_len, heads + 2 * kv_heads, shape.head_dim}).transpose(1, 2);  // [B, heads, S, h]
  const at::Tensor query = fused.narrow(1, 0, heads);
  const at::Tensor key = fused.narrow(1, heads, kv_heads).repeat_interleave(heads / kv_heads, 1);
  const at::Tensor value = fused.narrow(1, heads + kv_heads, kv_heads).repeat_interleave(heads / kv_heads, 1);
  const at::Tensor scores = query.matmul(key.transpose(2, 3)) / std::sqrt(static_cast<double>(shape.head_dim));
  const at::Tensor future = at::ones({shape.seq_len, shape.seq_len}, at::TensorOptions().dtype(at::kBool)).triu(1);
  const at::Tensor weights = scores.masked_fill(future, -std::numeric_limits<double>::infinity()).softmax(-1);
  return weights.matmul(value).transpose(1, 2).reshape({-1, heads * shape.head_dim});
}

// Nats per token; 0 where the target is negative.
inline at::Tensor cross_entropy(const at::Tensor& logits_TV, const at::Tensor& targets_T) {
  const at::Tensor counted = targets_T.ge(0), index = targets_T.clamp_min(0).to(at::kLong).view({-1, 1});
  return -(logits_TV.log_softmax(-1).gather(1, index).view({-1}) * counted);
}

struct ModelResult {
  at::Tensor losses_T;
  at::Tensor auxiliary;  // the auxiliary losses with their coefficients, one element
  std::vector<at::Tensor> counts_E, load_balance_loss, z_loss, entropy;  // by MoE layer
};

// The whole model; `weights` by the names of parameter_specs.
inline ModelResult transformer(const Job& job, const std::map<std::string, at::Tensor>& weights,
                               const at::Tensor& tokens_T, const at::Tensor& targets_T,
                               const std::vector<int>& k_per_layer) {
  const ModelConfig& model = job.model;
  const AttentionShape shape{job.training.seq_len, model.num_heads, model.num_kv_heads,
                             model.head_dim,       model.qk_norm,   model.rms_norm_eps};
  ModelResult result;
  at::Tensor x_TD = weights.at("embedding").index_select(0, tokens_T.to(at::kLong));
  result.auxiliary = at::zeros({}, x_TD.options());
  size_t moe_layer = 0;
  for (int64_t l = 0; l < model.num_layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    const auto weight = [&](const std::string& name) {
      const auto found = weights.find(prefix + name);
      return found == weights.end() ? at::Tensor() : found->second;
    };
    const at::Tensor attended =
        attend(project_qkv(rms_norm(x_TD, weight("attention_norm"), model.rms_norm_eps), weight("attention.qkv"),
                           weight("attention.qkv_bias"), weight("attention.query_norm"), weight("attention.key_norm"),
                           shape, model.rope_theta),
               shape);
    x_TD = x_TD + attended.matmul(weight("attention.output").t());
    const at::Tensor normed = rms_norm(x_TD, weight("feed_forward_norm"), model.rms_norm_eps);
    for (const char* dense : {"mlp", "shared_expert"}) {
      const std::string name(dense);
      if (!weight(name + ".down").defined()) continue;
      const at::Tensor out_TD = mlp(normed, weight(name + ".gate_up"), weight(name + ".down"));
      const at::Tensor gate = weight(name + ".gate");
      x_TD = x_TD + (gate.defined() ? normed.matmul(gate.t()).sigmoid() * out_TD : out_TD);
    }
    if (!model.is_moe_layer(l)) continue;
    RouterSettings settings;
    settings.top_k = k_per_layer[moe_layer++];
    if (model.gate_normalization == GateNormalization::kSelected) {
      settings.normalization = kernels::GateNormalization::kSelected;
    } else if (model.gate_normalization == GateNormalization::kReference) {
      settings.normalization = kernels::GateNormalization::kReference;
      settings.k_reference = job.elastic.k_reference;
    }
    if (job.elastic.sampling == Sampling::kTopP) settings.top_p = job.elastic.top_p;
    const Routed routed = route(normed, weight("router"), settings);
    x_TD = x_TD + experts(normed, routed.dense_TE, weight("experts.gate_up"), weight("experts.down"));
    result.auxiliary = result.auxiliary + routed.load_balance_loss * job.training.load_balance_coefficient +
                       routed.z_loss * job.training.z_loss_coefficient;
    result.counts_E.push_back(routed.counts_E);
    result.load_balance_loss.push_back(routed.load_balance_loss);
    result.z_loss.push_back(routed.z_loss);
    result.entropy.push_back(routed.entropy);
  }
  const at::Tensor& output = weights.at(model.tie_embeddings ? "embedding" : "output");
  result.losses_T =
      cross_entropy(rms_norm(x_TD, weights.at("final_norm"), model.rms_norm_eps).matmul(output.t()), targets_T);
  return result;
}

}  // namespace mmoe::plain
