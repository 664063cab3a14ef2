#pragma once
// What each pipeline rank holds: its chunks of layers, and whether embedding, further-token layers and head are there.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// Layers first_layer .. first_layer + num_layers - 1.
struct StageChunk {
  int64_t first_layer = 0, num_layers = 0;
  bool embedding = false, head = false;  // with the head: the layers of multi-token prediction too
  int64_t num_moe_layers(const ModelConfig& model) const {
    if (model.num_experts == 0) return 0;
    return std::max<int64_t>(0, first_layer + num_layers - std::max(first_layer, model.num_dense_layers));
  }
  int64_t num_dense_layers(const ModelConfig& model) const { return num_layers - num_moe_layers(model); }
};

// Chunks [rank][virtual chunk].
using PipelineStages = std::vector<std::vector<StageChunk>>;

// Of a chunk's layers those that full recomputation covers: the first training.recompute_num_layers, or all.
struct RecomputedLayers {
  int64_t dense = 0, moe = 0;
};
RecomputedLayers recomputed_layers(const Job& job, const StageChunk& chunk);

PipelineStages pipeline_stages(const Job& job, const Framework& framework);

// Weights of one rank: those that data-parallel and context ranks share, and those of routed experts, which the ranks
// of expert_data share.
struct RankWeights {
  double dense = 0, expert = 0;
  double total() const { return dense + expert; }
  RankWeights& operator+=(const RankWeights& other) {
    dense += other.dense;
    expert += other.expert;
    return *this;
  }
};

// Weights on one rank of everything that a pipeline stage may hold.
struct WeightPieces {
  RankWeights dense_layer, moe_layer, last_layer;
  double table = 0;      // embedding or head
  double positions = 0;  // learned
  double final_norm = 0;
  RankWeights multi_token;  // all depths, without a copy of the embedding
};
WeightPieces weight_pieces(const Job& job, const Framework& framework);
RankWeights rank_weights(const Job& job, const WeightPieces& pieces, const std::vector<StageChunk>& chunks);

// One layer's weights on one rank; a layer of multi-token prediction is like the last one.
RankWeights layer_weights(const Job& job, const Framework& framework, int64_t layer);

// All that a rank of the pipeline holds. Where the embedding stands on another rank, a tied head and the layers of
// multi-token prediction share a copy of it.
RankWeights rank_weights(const Job& job, const Framework& framework, const std::vector<StageChunk>& chunks);

}  // namespace mmoe
