#include "sim/cluster/layer_tensors.h"

#include <algorithm>

namespace mmoe {
namespace {

class TensorList {
 public:
  explicit TensorList(const Job& job) : recompute_(job.training.recompute) {}
  // Kept, unless recomputation says otherwise of one of its modules; `again` if it never is.
  void add(const char* name, double bytes, std::initializer_list<const char*> modules, bool again = false) {
    if (bytes <= 0) return;
    again |= recompute_.full;
    for (const char* module : modules) again |= recompute_.has(module);
    tensors_.push_back({name, bytes, again});
  }
  std::vector<KeptTensor> take() { return std::move(tensors_); }

 private:
  const Recompute& recompute_;
  std::vector<KeptTensor> tensors_;
};

bool dropless(const Job& job) { return job.training.moe.dispatch == DispatchKind::kDropless; }

void add_attention(TensorList& list, const Job& job, const Framework& framework, const RankShapes& s) {
  const ModelConfig& model = job.model;
  const TrainingConfig& training = job.training;
  const bool latent = model.attention == AttentionKind::kLatent;
  const bool unfused = training.attention_backend == AttentionBackend::kUnfused;
  const double output = s.element * s.tokens * s.attention_output_size;
  if (latent) {
    const auto rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const auto rotated = static_cast<double>(model.qk_rope_head_dim);
    list.add("latents", s.element * s.tokens * (2 * rank_q + 2 * rank_kv + rotated), {"attention"});
    list.add("queries", s.element * s.tokens * s.query_size, {"attention"});
    list.add("keys and values", s.element * s.tokens * (s.query_size + s.attention_output_size),
             {"attention", "mla_up_projection"});
  } else {
    list.add("queries, keys, values", s.element * s.tokens * (s.query_size + 2 * s.kv_size), {"attention"});
    if (model.qk_norm != QkNorm::kNone) {
      list.add("normalised queries, keys", s.element * s.tokens * (s.query_size + s.kv_size), {"attention"});
    }
  }
  if (unfused) {
    // Softmax output and, with dropout, its mask and output; without a fused kernel the output is fp32.
    const double bytes = (training.attention_dropout > 0 ? 2 * s.element + 1 : s.element) +
                         (training.has_option("unfused_softmax") ? std::max(0.0, 4 - s.element) : 0);
    list.add("scores", bytes * s.heads * s.sequences * s.seq_len * s.seq_len, {"attention", "core_attention"});
  } else {
    list.add("softmax statistics", 4 * s.heads * s.tokens, {"attention", "core_attention"});
  }
  list.add("attention output", output, {"attention"});
  double copies = framework.memory.attention_output_copies;
  if (training.has_option("flash_attention")) copies = 1;
  if (training.has_option("cudnn_attention")) copies = 0;
  // All-to-all context parallelism keeps the output before and after the exchange.
  if (job.parallelism.context > 1 && job.parallelism.context_kind == ContextKind::kAllToAll)
    copies = std::max(copies, 1.0);
  if (!unfused) list.add("attention output, copy", copies * output, {"attention", "core_attention"});
}

}  // namespace

double expert_rows(const Job& job, const Framework& framework, const RankShapes& s, double k, double rows_factor) {
  const double balanced = s.rows_per_k * k;
  if (!dropless(job)) return balanced * job.training.moe.capacity_factor;
  return balanced * rows_factor * (1 + framework.memory.hot_expert_excess / s.local_experts);
}

double gathered_input_bytes(const Job& job, const RankShapes& s) {
  if (!job.parallelism.sequence || job.parallelism.tensor == 1) return 0;
  return s.element * s.tokens * s.hidden_size * (1 - 1 / static_cast<double>(job.parallelism.tensor));
}

std::vector<KeptTensor> layer_tensors(const Job& job, const Framework& framework, const RankShapes& s, LayerKind kind,
                                      double k, double rows_factor) {
  const ModelConfig& model = job.model;
  const bool latent = model.attention == AttentionKind::kLatent;
  const double hidden = s.element * s.split_tokens * s.hidden_size;
  const double mask = job.training.hidden_dropout > 0 ? s.split_tokens * s.hidden_size : 0;
  const auto up = static_cast<double>(model.up_projections());
  TensorList list(job);
  std::vector<KeptTensor> tensors = {{"layer input", hidden, false}};
  list.add("attention input, normalised", hidden,
           latent ? std::initializer_list<const char*>{"attention", "norm"}
                  : std::initializer_list<const char*>{"attention"});
  add_attention(list, job, framework, s);
  list.add("dropout mask of attention", mask, {});
  list.add("input of the feed-forward part", hidden, {});
  if (kind == LayerKind::kDense) {
    list.add("feed-forward input, normalised", hidden, {"mlp"});
    list.add("up projection", s.element * s.tokens * up * s.dense_hidden_size, {"mlp"});
    list.add("activation", (1 + framework.memory.activation_copies) * s.element * s.tokens * s.dense_hidden_size,
             {"mlp"});
  } else {
    list.add("feed-forward input, normalised", hidden, {"norm"});
    const double rows = expert_rows(job, framework, s, k, rows_factor);
    list.add("router", 8 * s.split_tokens * static_cast<double>(model.num_experts), {"moe"});
    const bool again = job.training.expert_saving == ExpertSaving::kRecompute;
    list.add("experts' input", s.element * rows * s.hidden_size, {"moe"}, again);
    list.add("experts' up projection", s.element * rows * up * s.expert_hidden_size, {"moe"}, again);
    // Without a gate the product with the routing weight is a tensor of its own.
    list.add("experts' activation",
             (model.activation == Activation::kSwiGlu ? 1 : 2) * s.element * rows * s.expert_hidden_size,
             {"moe", "moe_activation"}, again);
    if (s.shared_expert_hidden_size > 0) {
      const bool split = job.parallelism.sequence && job.parallelism.tensor > 1;
      list.add("shared experts",
               s.element * s.tokens * (up + 1) * s.shared_expert_hidden_size +
                   (split ? s.element * s.tokens * s.hidden_size : 0),
               {"moe", "shared_experts"});
    }
  }
  list.add("dropout mask of the feed-forward part", mask, {});
  for (KeptTensor& tensor : list.take()) tensors.push_back(tensor);
  return tensors;
}

LayerBytes layer_bytes(const Job& job, const Framework& framework, const RankShapes& s, LayerKind kind, double k,
                       double rows_factor) {
  LayerBytes bytes;
  for (const KeptTensor& tensor : layer_tensors(job, framework, s, kind, k, rows_factor)) {
    bytes.whole += tensor.bytes;
    (tensor.recomputed ? bytes.again : bytes.kept) += tensor.bytes;
  }
  return bytes;
}

}  // namespace mmoe
