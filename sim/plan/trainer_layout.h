#pragma once
// Which part of the model one rank of our trainer holds, and how it lies in its flat buffers.

#include <cstdint>
#include <utility>
#include <vector>

#include "sim/config/job.h"
#include "sim/formulas/parameter_specs.h"
#include "sim/network/rank_groups.h"

namespace mmoe {

// Consecutive layers of one pipeline stage: [begin, end), with the embedding or the loss head at the model's ends.
struct LayerChunk {
  int64_t begin = 0, end = 0;
  bool has_embedding = false, has_head = false;
};

// The chunks of one pipeline rank in the order of the model; one for the whole model without a pipeline.
std::vector<LayerChunk> layer_chunks(const Job& job, int64_t pipeline_rank);

// Of the model's tensors what one rank holds: its pipeline stage's layers, its share of the experts, its tensor
// parallel part of attention and dense feed-forwards. Every tensor parallel rank holds the whole vocabulary and runs it
// on its own tokens. With tied embeddings the first and the last stage both hold the embedding.
std::vector<ParameterSpec> local_specs(const Job& job, int64_t rank);

// Elements [begin, end) of the flat buffers.
struct FlatRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const FlatRange&) const = default;
};

// The ranks that hold the same weights of a group, and what their collectives are counted under: "data", "stage",
// "expert_data". Without tensor parallelism those of a stage are the data parallel ones.
struct Holders {
  const char* name;
  RankGroup ranks;
};
Holders holders_of(ParameterGroup group, const RankGroups& groups);

// Numbers of elements of which the sizes of the flat buffers' sections are multiples, so that ranks can share them
// evenly.
struct SectionAlignment {
  int64_t shared = 16, split_experts = 16, split_tensors = 16;
};

// Multiples that let ZeRO share each section of the flat buffers evenly; 16 without ZeRO.
SectionAlignment section_alignment(const Job& job);

// A part of the flat buffers whose gradients are summed over the same ranks.
struct Section {
  FlatRange range;
  ParameterGroup group;
};

// Where each tensor begins in the flat buffers. Sections in order: split experts, split tensors with decay, shared
// weights with decay, those without, split tensors without; so the optimiser sees two contiguous ranges. Every tensor
// starts at a multiple of 16 elements.
struct ParameterPlaces {
  std::vector<std::pair<size_t, int64_t>> tensors;  // index of the spec, first element
  std::vector<Section> sections;                    // some may be empty
  int64_t num_decayed = 0;                          // elements of the first three
  int64_t num_elements = 0;                         // of all
};
ParameterPlaces place_parameters(const std::vector<ParameterSpec>& specs, SectionAlignment alignment);

// Elements of the flat buffers that belong to tensors of training.freeze, padding included, in rising order.
std::vector<FlatRange> frozen_ranges(const std::vector<ParameterSpec>& specs, const ParameterPlaces& places,
                                     const TrainingConfig& training);

// Number of elements that ranges of both lists hold; each list is free of overlaps.
int64_t common_elements(const std::vector<FlatRange>& a, const std::vector<FlatRange>& b);

// Gradients are summed in pieces of about this many elements.
inline constexpr int64_t kBucketElements = int64_t{1} << 23;

// A section cut into buckets of up to bucket_elements, each of which a group of this size shares evenly.
std::vector<FlatRange> bucket_ranges(FlatRange section, int64_t group_size, int64_t bucket_elements = kBucketElements);

}  // namespace mmoe
