#include "sim/config/pipeline_layout.h"

namespace mmoe {

std::vector<std::vector<int64_t>> layers_by_pipeline_rank(const ModelConfig& model,
                                                          const ParallelismConfig& parallelism) {
  const int64_t chunks = parallelism.pipeline * parallelism.virtual_pipeline;
  std::vector<std::vector<int64_t>> ranks(static_cast<std::size_t>(parallelism.pipeline));
  int64_t layer = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t length = parallelism.stage_layers.empty()
                               ? model.num_layers / chunks + (chunk < model.num_layers % chunks ? 1 : 0)
                               : parallelism.stage_layers[static_cast<std::size_t>(chunk)];
    auto& rank = ranks[static_cast<std::size_t>(parallelism.rank_of_chunk(chunk))];
    for (int64_t i = 0; i < length; ++i) rank.push_back(layer++);
  }
  return ranks;
}

std::vector<std::vector<int64_t>> moe_layers_by_pipeline_rank(const ModelConfig& model,
                                                              const ParallelismConfig& parallelism) {
  std::vector<std::vector<int64_t>> ranks;
  for (const auto& layers : layers_by_pipeline_rank(model, parallelism)) {
    auto& moe_layers = ranks.emplace_back();
    for (const int64_t layer : layers) {
      if (model.is_moe_layer(layer)) moe_layers.push_back(layer - model.num_dense_layers);
    }
  }
  return ranks;
}

}  // namespace mmoe
