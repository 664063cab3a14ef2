#pragma once
// Which layers each pipeline rank holds.

#include <cstdint>
#include <vector>

#include "sim/config/model_config.h"
#include "sim/config/parallelism_config.h"

namespace mmoe {

// The number of layers of each of the pipeline x virtual_pipeline chunks: as parallelism.stage_layers says, else equal,
// the first ones one layer longer where that does not divide.
std::vector<int64_t> layers_of_chunks(const ModelConfig& model, const ParallelismConfig& parallelism);

// The layers of each pipeline rank, in order. Chunk c belongs to parallelism.rank_of_chunk(c).
std::vector<std::vector<int64_t>> layers_by_pipeline_rank(const ModelConfig& model,
                                                          const ParallelismConfig& parallelism);

// The same, counting MoE layers only, from 0 for the first MoE layer of the model.
std::vector<std::vector<int64_t>> moe_layers_by_pipeline_rank(const ModelConfig& model,
                                                              const ParallelismConfig& parallelism);

}  // namespace mmoe
