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

// Of the model's tensors what one rank holds: its pipeline stage's layers, its share of the experts and its part of
// each, its tensor parallel part of attention and dense feed-forwards. Every tensor parallel rank holds the whole
// vocabulary and runs it on its own tokens. With tied embeddings the first and the last stage both hold the embedding.
std::vector<ParameterSpec> local_specs(const Job& job, int64_t rank);

// Elements [begin, end) of the flat buffers.
struct FlatRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const FlatRange&) const = default;
};

int64_t num_elements(const std::vector<FlatRange>& ranges);

// The ranks that hold the same weights of a group, and what their collectives are counted under: "data", "stage",
// "expert_data". Without tensor parallelism those of a stage are the data parallel ones.
struct Holders {
  const char* name;
  RankGroup ranks;
};
Holders holders_of(ParameterGroup group, const RankGroups& groups);

// Numbers of elements of which the sizes of the flat buffers' sections are multiples, so that ranks can share them
// evenly; by_layer: of which each layer's part of a section is one, too.
struct SectionAlignment {
  int64_t shared = 16, split_experts = 16, split_tensors = 16;
  bool by_layer = false;
};

// Multiples that let ZeRO share each section of the flat buffers evenly, from stage 2 on each layer's part of it; 16
// without ZeRO.
SectionAlignment section_alignment(const Job& job);

// A part of the flat buffers whose gradients are summed over the same ranks.
struct Section {
  FlatRange range;
  ParameterGroup group;
};

// Where each tensor begins in the flat buffers. Sections in order: split experts, split tensors with decay, shared
// weights with decay, routers where they are apart, shared weights without decay, split tensors without; so the
// optimiser sees two contiguous ranges. Every tensor starts at a multiple of 16 elements.
struct ParameterPlaces {
  std::vector<std::pair<size_t, int64_t>> tensors;  // index of the spec, first element
  std::vector<Section> sections;                    // some may be empty
  int64_t num_decayed = 0;                          // elements of those with weight decay
  int64_t num_elements = 0;                         // of all
};
ParameterPlaces place_parameters(const std::vector<ParameterSpec>& specs, SectionAlignment alignment);

// Elements of the flat buffers that belong to tensors of training.freeze, padding included, in rising order.
std::vector<FlatRange> frozen_ranges(const std::vector<ParameterSpec>& specs, const ParameterPlaces& places,
                                     const TrainingConfig& training);

// Number of elements that ranges of both lists hold; each list is free of overlaps.
int64_t common_elements(const std::vector<FlatRange>& a, const std::vector<FlatRange>& b);

// Gradients are summed in pieces of about this many elements, from ZeRO stage 2 on in those of a layer.
inline constexpr int64_t kBucketElements = int64_t{1} << 23;

// A section cut into buckets of up to bucket_elements, each of which a group of this size shares evenly.
std::vector<FlatRange> bucket_ranges(FlatRange section, int64_t group_size, int64_t bucket_elements = kBucketElements);

// What goes through one collective.
struct ParameterBucket {
  FlatRange range;
  ParameterGroup group;
  int64_t first_layer;  // the lowest with a weight in it: the last to be done in the backward pass
  // From ZeRO stage 2 on, what of the model is whole at a time: -1 the embedding, then the layers, num_layers the final
  // norm, num_layers + 1 the output matrix.
  int64_t unit;
};

// The flat buffers as buckets, in rising order.
std::vector<ParameterBucket> parameter_buckets(const Job& job, const std::vector<ParameterSpec>& specs,
                                               const ParameterPlaces& places);

// The part of `range` that belongs to the rank at `position` of a group that shares it evenly.
FlatRange share_of(FlatRange range, int64_t position, int64_t group_size);

// What of the flat buffers a rank keeps for good; the whole of them where empty.
struct KeptRanges {
  std::vector<FlatRange> weights;    // ZeRO 3: its share of each bucket
  std::vector<FlatRange> gradients;  // from ZeRO 2 on
};
KeptRanges kept_ranges(const Job& job, int64_t rank);

}  // namespace mmoe
