#include "train/model/transformer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "sim/throughput/operations.h"
#include "sim/units/errors.h"
#include "train/ops/backward_hook.h"
#include "train/ops/embedding.h"
#include "train/ops/loss_head.h"
#include "train/ops/mlp.h"
#include "train/ops/norm.h"
#include "train/ops/recompute.h"
#include "train/ops/split_tokens.h"
#include "train/profiling/trace_range.h"

namespace mmoe {
namespace {

kernels::GateNormalization gate_normalization(GateNormalization normalization) {
  switch (normalization) {
    case GateNormalization::kSelected:
      return kernels::GateNormalization::kSelected;
    case GateNormalization::kReference:
      return kernels::GateNormalization::kReference;
    default:
      return kernels::GateNormalization::kNone;
  }
}

const Communicator* if_connected(const Communicator& group) { return group.size() > 1 ? &group : nullptr; }

}  // namespace

at::ScalarType compute_type(Precision precision) {
  switch (precision) {
    case Precision::kFp64:
      return at::kDouble;
    case Precision::kFp32:
      return at::kFloat;
    case Precision::kBf16:
      return at::kBFloat16;
    default:
      throw ConfigError("training.precision = fp8 can be simulated but not trained; use bf16, fp32 or fp64");
  }
}

Transformer::Transformer(const Job& job, c10::Device device, Gradients gradients, InitialWeights initial)
    : Transformer(on_one_device(job), no_groups(), device, gradients, initial) {}

Transformer::Transformer(const Job& job, const ProcessGroups& groups, c10::Device device, Gradients gradients,
                         InitialWeights initial)
    : model_(job.model),
      elastic_(job.elastic),
      training_(job.training),
      operations_(operations(job.training.operations)),
      device_(device),
      chunks_(layer_chunks(job, groups.stage())),
      expert_groups_{&groups.expert, &groups.expert_tensor},
      tensor_group_(if_connected(groups.tensor)),
      context_group_(if_connected(groups.context)),
      token_group_(if_connected(groups.token_group())),
      parameters_(local_specs(job, groups.rank), compute_type(job.training.precision), device, job.training.seed,
                  gradients, initial, section_alignment(job), kept_ranges(job, groups.rank)),
      attention_{job.training.seq_len,
                 model_.num_heads / groups.token_group().size(),
                 model_.num_kv_heads / groups.token_group().size(),
                 model_.head_dim,
                 model_.qk_norm,
                 model_.rms_norm_eps},
      rope_(make_rope_table(model_.rope_theta, job.training.seq_len, model_.head_dim,
                            compute_type(job.training.precision), device)),
      layers_(static_cast<size_t>(model_.num_layers)) {
  if (job.parallelism.zero_stage >= 2) {
    shards_ = std::make_unique<LayerShards>(job, groups, parameters_, compute_type(job.training.precision));
  }
  if (chunks_.front().has_embedding) embedding_ = &parameters_.at("embedding");
  if (chunks_.back().has_head) {
    final_norm_ = &parameters_.at("final_norm");
    output_ = &parameters_.at(model_.tie_embeddings ? "embedding" : "output");
  }
  for (const LayerChunk& chunk : chunks_) {
    for (int64_t l = chunk.begin; l < chunk.end; ++l) layers_[l] = find_layer(l);
  }
}

Transformer::Layer Transformer::find_layer(int64_t l) const {
  const auto find = [&](const char* part) { return &parameters_.at(layer_tensor(part, l)); };
  Layer layer;
  layer.attention_norm = find("attention_norm");
  layer.output = find("attention.output");
  layer.moe_norm = find("feed_forward_norm");
  layer.qkv.projection_CD = find("attention.qkv");
  layer.qkv.tensor = tensor_group_;
  layer.qkv.context = context_group_;
  if (model_.qkv_bias) layer.qkv.bias_C = find("attention.qkv_bias");
  if (model_.qk_norm != QkNorm::kNone) {
    layer.qkv.query_norm = find("attention.query_norm");
    layer.qkv.key_norm = find("attention.key_norm");
  }
  const bool moe = model_.is_moe_layer(l);
  if (moe) {
    layer.router = find("router");
    layer.experts = {find("experts.gate_up"), find("experts.down")};
  }
  if (!moe || model_.shared_expert_hidden_size > 0) {
    layer.mlp.gate_up = find(moe ? "shared_expert.gate_up" : "mlp.gate_up");
    layer.mlp.down = find(moe ? "shared_expert.down" : "mlp.down");
    layer.mlp.tensor = tensor_group_;
    if (moe && model_.shared_expert_gate) layer.mlp.gate = find("shared_expert.gate");
  }
  return layer;
}

at::Tensor Transformer::attention_block(const Layer& layer, const at::Tensor& x_TD,
                                        const std::vector<int64_t>& document_lengths, Place place) const {
  const Normed normed = operations_.rms_norm(x_TD, *layer.attention_norm, model_.rms_norm_eps, place);
  const at::Tensor qkv_TC = operations_.project_qkv(normed.normed_TD, layer.qkv, rope_, attention_, place);
  const at::Tensor attended_TA = document_lengths.empty()
                                     ? attend(qkv_TC, attention_, place)
                                     : attend_documents(qkv_TC, document_lengths, attention_, place);
  return project_output(normed.residual_TD, attended_TA, *layer.output, place, tensor_group_, context_group_);
}

at::Tensor Transformer::feed_forward_block(const Layer& layer, const at::Tensor& x_TD, double auxiliary_scale,
                                           bool measure_entropy, LayerRouting* report, Place place) const {
  Normed normed = operations_.rms_norm(x_TD, *layer.moe_norm, model_.rms_norm_eps, place);
  if (layer.mlp.gate_up != nullptr) {
    const char* const operation = layer.router == nullptr ? "mlp" : "shared_expert";
    const MlpResult mlp = operations_.run_mlp(normed.residual_TD, normed.normed_TD, layer.mlp, operation, place);
    if (layer.router == nullptr) return mlp.out_TD;
    normed = {mlp.out_TD, mlp.x_TD};
  }
  RouterSettings settings;
  settings.top_k = place.k;
  settings.normalization = gate_normalization(model_.gate_normalization);
  settings.k_reference = elastic_.k_reference;
  settings.top_p = elastic_.sampling == Sampling::kTopP ? elastic_.top_p : 0;
  settings.load_balance_coefficient = training_.load_balance_coefficient * auxiliary_scale;
  settings.z_loss_coefficient = training_.z_loss_coefficient * auxiliary_scale;
  settings.measure_entropy = measure_entropy && report != nullptr;
  settings.ranks = token_group_;
  const Routing routing = operations_.route(normed.normed_TD, *layer.router, settings, place);
  if (report != nullptr) {
    *report = {routing.counts_E, routing.load_balance_loss, routing.z_loss, routing.entropy, {}};
  }
  const ExpertSaving saving = training_.expert_saving;
  if (!expert_groups_.split())
    return operations_.run_experts(normed.residual_TD, routing, layer.experts, place, saving);
  SplitExpertsResult split =
      run_split_experts(normed.residual_TD, routing, layer.experts, expert_groups_, place, saving);
  if (report != nullptr) report->routed = split.routed;
  return split.out_TD;
}

void Transformer::gather(int64_t unit, std::optional<int64_t> next) {
  if (shards_) shards_->gather(unit, next);
}

void Transformer::release(int64_t unit) {
  if (shards_) shards_->release(unit);
}

at::Tensor Transformer::before_backward(const at::Tensor& x, int64_t unit, std::optional<int64_t> next,
                                        bool with_weights) {
  if (!shards_ || !at::GradMode::is_enabled() || !x.requires_grad()) return x;
  return on_backward(x, [shards = shards_.get(), unit, next, with_weights] {
    if (with_weights) shards->gather(unit, next);
    shards->begin_gradients(unit);
  });
}

void Transformer::after_backward(int64_t unit) {
  if (!shards_) return;
  shards_->release(unit);
  shards_->end_gradients(unit);
}

void Transformer::finish_gradients() {
  if (shards_) shards_->finish();
  parameters_.finish_gradients();
}

at::Tensor Transformer::embed_tokens(const LayerChunk& chunk, const at::Tensor& tokens_T) {
  const int64_t unit = embedding_->layer;
  gather(unit, chunk.begin);
  at::Tensor x_TD = shards_ ? embed(tokens_T, *embedding_, [this, unit] { after_backward(unit); })
                            : operations_.embed(tokens_T, *embedding_);
  release(unit);
  return before_backward(x_TD, unit, {}, /*with_weights=*/false);
}

// Behind the chunk's last layer; the output matrix comes next.
at::Tensor Transformer::normed_output(const LayerChunk& chunk, const at::Tensor& x_TD) {
  const int64_t unit = final_norm_->layer;
  gather(unit, head_unit());
  at::Tensor x = x_TD;
  if (shards_ && at::GradMode::is_enabled() && x.requires_grad()) {
    x = on_backward(x, [this, unit] { after_backward(unit); });
  }
  const at::Tensor normed_TD = operations_.rms_norm(x, *final_norm_, model_.rms_norm_eps, {}).normed_TD;
  release(unit);
  return before_backward(normed_TD, unit, chunk.end - 1);
}

at::Tensor Transformer::run_layers(const LayerChunk& chunk, at::Tensor x_TD, const MicroBatch& batch,
                                   std::vector<LayerRouting>* routing) {
  MMOE_CHECK(static_cast<int64_t>(batch.k_per_layer.size()) == model_.num_moe_layers()) << "one k for every MoE layer";
  const Recompute& keep = training_.recompute;
  const bool recording = at::GradMode::is_enabled() && x_TD.requires_grad();
  int64_t moe_layer = std::max<int64_t>(0, chunk.begin - model_.num_dense_layers);
  const int64_t first_moe_layer = moe_layer;
  if (routing != nullptr) {
    routing->resize(std::max<int64_t>(0, chunk.end - std::max(chunk.begin, model_.num_dense_layers)));
  }
  for (int64_t l = chunk.begin; l < chunk.end; ++l) {
    const Layer& layer = layers_[l];
    Place place{static_cast<int>(l), 0};
    LayerRouting* report = nullptr;
    if (layer.router != nullptr) {
      place.k = batch.k_per_layer[moe_layer];
      if (routing != nullptr) report = &(*routing)[moe_layer - first_moe_layer];
      ++moe_layer;
    }
    const TraceRange range([&] { return layer_label(place.layer, place.k); });
    if (recording && (shards_ || batch.layer_done)) {
      x_TD = on_backward(x_TD, [this, done = batch.layer_done, l] {
        after_backward(l);
        if (done) done(l);
      });
    }
    const bool last = l + 1 == chunk.end;
    gather(l, last ? (chunk.has_head ? std::optional(model_.num_layers) : std::nullopt) : std::optional(l + 1));
    // What runs again in the backward pass reports to nobody the second time: `report` may be gone by then.
    const auto reported = std::make_shared<bool>(false);
    const auto attention = [this, &layer, documents = batch.document_lengths, place](const at::Tensor& x) {
      return attention_block(layer, x, documents, place);
    };
    const auto feed_forward = [this, &layer, place, scale = batch.auxiliary_scale, measure = batch.measure_entropy,
                               report, reported](const at::Tensor& x) {
      LayerRouting* const first_time = std::exchange(*reported, true) ? nullptr : report;
      return feed_forward_block(layer, x, scale, measure, first_time, place);
    };
    if (recording && keep.full) {
      x_TD = recompute(x_TD, [attention, feed_forward](const at::Tensor& x) { return feed_forward(attention(x)); });
    } else {
      x_TD = recording && keep.has("attention") ? recompute(x_TD, attention) : attention(x_TD);
      x_TD = recording && keep.has("moe") ? recompute(x_TD, feed_forward) : feed_forward(x_TD);
    }
    release(l);
    x_TD = before_backward(x_TD, l, l > chunk.begin ? std::optional(l - 1) : std::nullopt);
  }
  return x_TD;
}

at::Tensor Transformer::own_part(const at::Tensor& all_T) const {
  if (token_group_ == nullptr) return all_T;
  const int64_t tokens = all_T.size(0) / token_group_->size();
  return all_T.narrow(0, token_group_->rank() * tokens, tokens);
}

at::Tensor Transformer::hidden_states(const at::Tensor& tokens_T, const std::vector<int>& k_per_layer,
                                      const std::vector<int64_t>& document_lengths) {
  MicroBatch batch;
  batch.k_per_layer = k_per_layer;
  batch.document_lengths = document_lengths;
  const LayerChunk& chunk = chunks_.front();
  return normed_output(chunk, run_layers(chunk, embed_tokens(chunk, tokens_T), batch, nullptr));
}

TrainingForward Transformer::training_forward(const MicroBatch& batch) {
  return training_forward(chunks_.front(), {}, batch);
}

TrainingForward Transformer::training_forward(const LayerChunk& chunk, const at::Tensor& x_TD,
                                              const MicroBatch& batch) {
  TrainingForward result;
  result.output_TD =
      run_layers(chunk, chunk.has_embedding ? embed_tokens(chunk, batch.tokens_T) : x_TD, batch, &result.routing);
  if (!chunk.has_head) return result;
  const at::Tensor normed_TD = normed_output(chunk, std::exchange(result.output_TD, {}));
  gather(head_unit());
  if (shards_) shards_->begin_gradients(head_unit());  // formed in the forward pass
  const LossHeadResult head = operations_.loss_head(normed_TD, *output_, batch.targets_T, batch.loss_scale);
  result.loss = head.loss;
  result.losses_T = head.losses_T;
  after_backward(head_unit());
  return result;
}

KvCache Transformer::make_cache(int64_t capacity) const {
  const at::ScalarType type = compute_type(training_.precision);
  const auto options = at::TensorOptions().dtype(type).device(device_);
  KvCache cache;
  cache.rope = make_rope_table(model_.rope_theta, capacity, model_.head_dim, type, device_);
  for (int64_t l = 0; l < model_.num_layers; ++l) {
    const auto room = [&] { return at::empty({model_.num_kv_heads, capacity, model_.head_dim}, options); };
    cache.layers.push_back({room(), room()});
  }
  return cache;
}

at::Tensor Transformer::extend(KvCache& cache, const at::Tensor& tokens_T, const std::vector<int>& k_per_layer) {
  MMOE_CHECK(static_cast<int64_t>(k_per_layer.size()) == model_.num_moe_layers()) << "one k for every MoE layer";
  const int64_t tokens = tokens_T.size(0);
  AttentionShape shape = attention_;
  shape.seq_len = tokens;
  const RopeTable rope{cache.rope.cos.narrow(0, cache.length, tokens), cache.rope.sin.narrow(0, cache.length, tokens)};
  at::Tensor x_TD = operations_.embed(tokens_T, *embedding_);
  size_t moe_layer = 0;
  for (int64_t l = 0; l < model_.num_layers; ++l) {
    const Layer& layer = layers_[l];
    const Place place{static_cast<int>(l), layer.router != nullptr ? k_per_layer[moe_layer++] : 0};
    const Normed normed = operations_.rms_norm(x_TD, *layer.attention_norm, model_.rms_norm_eps, place);
    const at::Tensor qkv_TC = operations_.project_qkv(normed.normed_TD, layer.qkv, rope, shape, place);
    const at::Tensor attended_TA = attend_cached(qkv_TC, shape, cache.layers[l], cache.length);
    x_TD = project_output(normed.residual_TD, attended_TA, *layer.output, place);
    x_TD = feed_forward_block(layer, x_TD, 0, /*measure_entropy=*/false, nullptr, place);
  }
  cache.length += tokens;
  const at::Tensor last_1D =
      operations_.rms_norm(x_TD.narrow(0, tokens - 1, 1), *final_norm_, model_.rms_norm_eps, {}).normed_TD;
  return at::mm(last_1D, output_->value.t()).view({-1});
}

at::Tensor Transformer::logits(const at::Tensor& tokens_T, const std::vector<int>& k_per_layer,
                               const std::vector<int64_t>& document_lengths) {
  return at::mm(hidden_states(tokens_T, k_per_layer, document_lengths), output_->value.t());
}

at::Tensor Transformer::evaluate(const at::Tensor& tokens_T, const at::Tensor& targets_T,
                                 const std::vector<int>& k_per_layer, const std::vector<int64_t>& document_lengths) {
  const at::Tensor normed_TD = hidden_states(own_part(tokens_T), k_per_layer, document_lengths);
  gather(head_unit());
  const at::Tensor losses_T = operations_.token_losses(normed_TD, *output_, own_part(targets_T));
  release(head_unit());
  return gather_tokens(losses_T.view({-1, 1}), token_group_).view({-1});
}

}  // namespace mmoe
