#include "sim/cluster/stages.h"

#include <algorithm>

#include "sim/cluster/rank_shapes.h"
#include "sim/config/pipeline_layout.h"
#include "sim/formulas/parameter_counts.h"

namespace mmoe {
namespace {

// Layers of each rank by cost: a block is placed, then the rank advances once the cost so far reaches its share. A
// layer costs 4 h^2 + 3 h f, the head V h, other blocks nothing; the head is on the last rank. Source: nanotron's
// partition of pipeline blocks; that ties advance is read off measured runs.
std::vector<int64_t> layers_by_cost(const ModelConfig& model, int64_t ranks) {
  const auto hidden = static_cast<double>(model.hidden_size);
  const double layer = 4 * hidden * hidden + 3 * hidden * static_cast<double>(model.dense_hidden_size);
  const double head = hidden * static_cast<double>(model.vocab_size);
  const double total = layer * static_cast<double>(model.num_layers) + head;
  std::vector<int64_t> layers(ranks, 0);
  int64_t rank = 0;
  double cost = 0;
  for (int64_t i = 0; i < model.num_layers; ++i) {
    ++layers[rank];
    cost += layer;
    if (rank + 1 < ranks && cost >= total * static_cast<double>(rank + 1) / static_cast<double>(ranks)) ++rank;
  }
  return layers;
}

double biases(bool present, double width) { return present ? width : 0; }

double norm_size(const ModelConfig& model, double width) { return model.norm == NormKind::kLayer ? 2 * width : width; }

double mlp_weights(const ModelConfig& model, double hidden, double width) {
  if (width == 0) return 0;
  const double up = static_cast<double>(model.up_projections()) * width;
  return hidden * (up + width) + biases(model.linear_bias, up + hidden);
}

// Projections are split over tensor ranks; compressed vectors, norms and biases of outputs are copied.
double attention_weights(const ModelConfig& model, const RankShapes& s) {
  const double D = s.hidden_size;
  if (model.attention == AttentionKind::kLatent) {
    const auto rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const auto rotated = static_cast<double>(model.qk_rope_head_dim);
    const double queries =
        rank_q > 0 ? D * rank_q + norm_size(model, rank_q) + rank_q * s.query_size : D * s.query_size;
    return queries + D * (rank_kv + rotated) + norm_size(model, rank_kv) +
           rank_kv * (s.heads * (s.head_dim - rotated) + s.attention_output_size) + s.attention_output_size * D;
  }
  const double qkv = s.query_size + 2 * s.kv_size;
  double norms = 0;
  if (model.qk_norm == QkNorm::kPerHead) norms = 2 * norm_size(model, s.head_dim);
  if (model.qk_norm == QkNorm::kFull) norms = norm_size(model, s.query_size + s.kv_size);
  return D * qkv + s.query_size * D + biases(model.linear_bias || model.qkv_bias, qkv) + biases(model.linear_bias, D) +
         norms;
}

}  // namespace

RecomputedLayers recomputed_layers(const Job& job, const StageChunk& chunk) {
  RecomputedLayers layers{chunk.num_dense_layers(job.model), chunk.num_moe_layers(job.model)};
  const Recompute& recompute = job.training.recompute;
  if (!recompute.full || recompute.num_layers == 0) return layers;
  layers.dense = std::min(layers.dense, recompute.num_layers);
  layers.moe = std::min(layers.moe, recompute.num_layers - layers.dense);
  return layers;
}

PipelineStages pipeline_stages(const Job& job, const Framework& framework) {
  const ParallelismConfig& parallelism = job.parallelism;
  const int64_t p = parallelism.pipeline, v = parallelism.virtual_pipeline;
  PipelineStages stages(p, std::vector<StageChunk>(v));
  std::vector<int64_t> lengths = parallelism.stage_layers;
  if (lengths.empty() && framework.stage_cut == StageCut::kCost && v == 1) {
    lengths = layers_by_cost(job.model, p);
  }
  int64_t layer = 0;
  for (int64_t chunk = 0; chunk < p * v; ++chunk) {
    StageChunk& held = stages[parallelism.rank_of_chunk(chunk)][chunk / p];
    const int64_t even = job.model.num_layers / (p * v) + (chunk < job.model.num_layers % (p * v) ? 1 : 0);
    held = {layer, lengths.empty() ? even : lengths[chunk], false, false};
    layer += held.num_layers;
  }
  stages.front().front().embedding = true;
  stages[parallelism.rank_of_chunk(p * v - 1)].back().head = true;
  return stages;
}

RankWeights layer_weights(const Job& job, const Framework& framework, int64_t layer) {
  const ModelConfig& model = job.model;
  const RankShapes s = rank_shapes(job, framework);
  RankWeights weights;
  weights.dense = attention_weights(model, s) + 2 * norm_size(model, s.hidden_size);
  if (!model.is_moe_layer(layer)) {
    weights.dense += mlp_weights(model, s.hidden_size, s.dense_hidden_size);
    return weights;
  }
  weights.dense += s.hidden_size * static_cast<double>(model.num_experts) +
                   mlp_weights(model, s.hidden_size, s.shared_expert_hidden_size) +
                   (model.shared_expert_gate ? s.hidden_size : 0);
  weights.expert = s.local_experts * mlp_weights(model, s.hidden_size, s.expert_hidden_size);
  return weights;
}

WeightPieces weight_pieces(const Job& job, const Framework& framework) {
  const ModelConfig& model = job.model;
  const RankShapes s = rank_shapes(job, framework);
  WeightPieces pieces;
  pieces.last_layer = layer_weights(job, framework, model.num_layers - 1);
  pieces.dense_layer = layer_weights(job, framework, 0);
  pieces.moe_layer = pieces.last_layer;
  pieces.table = s.vocabulary * s.hidden_size;
  if (model.position == PositionKind::kLearned) {
    pieces.positions = static_cast<double>(model.max_position_embeddings) * s.hidden_size;
  }
  pieces.final_norm = norm_size(model, s.hidden_size);
  if (model.num_mtp_layers > 0) {
    const auto depths = static_cast<double>(model.num_mtp_layers);
    const double projection = 2 * s.hidden_size * s.hidden_size / static_cast<double>(job.parallelism.tensor);
    pieces.multi_token = {depths * (pieces.last_layer.dense + projection + 3 * pieces.final_norm),
                          depths * pieces.last_layer.expert};
  }
  return pieces;
}

RankWeights rank_weights(const Job& job, const WeightPieces& pieces, const std::vector<StageChunk>& chunks) {
  RankWeights weights;
  bool embedding = false, head = false;
  for (const StageChunk& chunk : chunks) {
    const auto moe_layers = static_cast<double>(chunk.num_moe_layers(job.model));
    const auto dense_layers = static_cast<double>(chunk.num_dense_layers(job.model));
    weights.dense += dense_layers * pieces.dense_layer.dense + moe_layers * pieces.moe_layer.dense;
    weights.expert += moe_layers * pieces.moe_layer.expert;
    embedding |= chunk.embedding;
    head |= chunk.head;
  }
  if (embedding) weights.dense += pieces.table + pieces.positions;
  if (!head) return weights;
  weights.dense += pieces.final_norm;
  weights += pieces.multi_token;
  if (!job.model.tie_embeddings) weights.dense += pieces.table;
  // A tied head and the layers of multi-token prediction read one copy of an embedding that stands on another rank.
  // Source: Megatron-Core 0.16.1, models/gpt/gpt_model.py, shared_embedding_or_output_weight: with both "the shared
  // weights will be stored in embedding layer, and output layer will not have any weight".
  const bool reads_embedding = job.model.tie_embeddings || job.model.num_mtp_layers > 0;
  if (reads_embedding && !embedding) weights.dense += pieces.table;
  return weights;
}

RankWeights rank_weights(const Job& job, const Framework& framework, const std::vector<StageChunk>& chunks) {
  return rank_weights(job, weight_pieces(job, framework), chunks);
}

}  // namespace mmoe
