#include "sim/config/pipeline_layout.h"

namespace mmoe {

std::vector<int64_t> layers_of_chunks(const ModelConfig& model, const ParallelismConfig& parallelism) {
  if (!parallelism.stage_layers.empty()) return parallelism.stage_layers;
  const int64_t chunks = parallelism.pipeline * parallelism.virtual_pipeline;
  std::vector<int64_t> lengths(static_cast<std::size_t>(chunks), model.num_layers / chunks);
  for (int64_t chunk = 0; chunk < model.num_layers % chunks; ++chunk) ++lengths[static_cast<std::size_t>(chunk)];
  return lengths;
}

std::vector<std::vector<int64_t>> layers_by_pipeline_rank(const ModelConfig& model,
                                                          const ParallelismConfig& parallelism) {
  const std::vector<int64_t> lengths = layers_of_chunks(model, parallelism);
  std::vector<std::vector<int64_t>> ranks(static_cast<std::size_t>(parallelism.pipeline));
  int64_t layer = 0;
  for (std::size_t chunk = 0; chunk < lengths.size(); ++chunk) {
    auto& rank = ranks[static_cast<std::size_t>(parallelism.rank_of_chunk(static_cast<int64_t>(chunk)))];
    for (int64_t i = 0; i < lengths[chunk]; ++i) rank.push_back(layer++);
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
