#pragma once
// Which part of the model one rank holds.

#include <vector>

#include "sim/config/job.h"
#include "train/model/parameters.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

// Consecutive layers of one pipeline stage: [begin, end), with the embedding or the loss head at the model's ends.
struct LayerChunk {
  int64_t begin = 0, end = 0;
  bool has_embedding = false, has_head = false;
};

// The chunks of one pipeline rank in the order of the model; one for the whole model without a pipeline.
std::vector<LayerChunk> layer_chunks(const Job& job, int64_t pipeline_rank);

// Of `specs` (the whole model's, parameter_specs) what the rank at `groups` holds: its pipeline stage's layers, its
// share of the experts. With tied embeddings the first and the last stage both hold the embedding.
std::vector<ParameterSpec> local_specs(const Job& job, const ProcessGroups& groups, std::vector<ParameterSpec> specs);

// Multiples that let ZeRO share each section of the flat buffers evenly; 16 without ZeRO.
SectionAlignment section_alignment(const Job& job, const ProcessGroups& groups);

}  // namespace mmoe
