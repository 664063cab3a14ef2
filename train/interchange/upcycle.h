#pragma once
// The experts of a MoE layer made from a dense feed-forward.

#include "sim/config/model_config.h"
#include "train/interchange/import_model.h"
#include "train/interchange/model_folder.h"
#include "train/model/parameters.h"

namespace mmoe {

// The MoE model that `dense` becomes. Throws ConfigError, naming the flags of `mmoe import`, where it cannot.
ModelConfig upcycled_model(const ModelConfig& dense, const Upcycle& upcycle);

// Whether `spec` of an upcycled model has no counterpart in the dense one: router and experts.
bool is_upcycled(const ParameterSpec& spec);

// Hands the elements of such a tensor to the sink, in `type`. `dense` is the model that the folder holds.
void write_upcycled(const ModelFolder& folder, const ModelConfig& dense, const ParameterSpec& spec,
                    const Upcycle& upcycle, at::ScalarType type, const ByteSink& sink);

}  // namespace mmoe
