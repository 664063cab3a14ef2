#include "sim/plan/trainer_layout.h"

#include <algorithm>
#include <utility>

#include "sim/config/pipeline_layout.h"

namespace mmoe {
namespace {

TensorBox whole_box(const std::vector<int64_t>& shape) {
  TensorBox box;
  for (const int64_t size : shape) box.push_back({0, size});
  return box;
}

// Adds the parts of `box` that a rank at this position holds, one of each block.
void add_blocks(ParameterSpec& spec, TensorBox box, const RankGroup& ranks, int64_t position) {
  int64_t block_begin = 0;
  for (const int64_t block : spec.tensor_split.blocks) {
    const int64_t count = block / ranks.size;
    box[spec.tensor_split.dim] = {block_begin + position * count, count};
    spec.part.boxes.push_back(box);
    block_begin += block;
  }
}

// Of the experts of this rank's share the parts of this rank.
void split_experts(ParameterSpec& spec, const RankGroups& groups, int64_t rank) {
  if (groups.expert.size * groups.expert_tensor.size == 1) return;
  TensorBox box = whole_box(spec.shape);
  spec.part.full_shape = spec.shape;
  spec.group = ParameterGroup::kSplitExperts;
  spec.shape[0] /= groups.expert.size;
  box[0] = {position_in(groups.expert, rank) * spec.shape[0], spec.shape[0]};
  if (groups.expert_tensor.size == 1) {
    spec.part.boxes = {box};
    return;
  }
  // An expert's blocks lie together, so with several each expert has its own boxes.
  const int64_t in_a_box = spec.tensor_split.blocks.size() == 1 ? box[0].count : 1;
  for (int64_t expert = box[0].begin, end = expert + box[0].count; expert < end; expert += in_a_box) {
    box[0] = {expert, in_a_box};
    add_blocks(spec, box, groups.expert_tensor, position_in(groups.expert_tensor, rank));
  }
  spec.shape[spec.tensor_split.dim] /= groups.expert_tensor.size;
}

void split_tensor(ParameterSpec& spec, const RankGroup& tensor, int64_t rank) {
  if (tensor.size == 1 || spec.tensor_split.blocks.empty()) return;
  spec.part.full_shape = spec.shape;
  spec.group = ParameterGroup::kSplitTensors;
  add_blocks(spec, whole_box(spec.shape), tensor, position_in(tensor, rank));
  spec.shape[spec.tensor_split.dim] /= tensor.size;
}

}  // namespace

std::vector<LayerChunk> layer_chunks(const Job& job, int64_t pipeline_rank) {
  const std::vector<int64_t> lengths = layers_of_chunks(job.model, job.parallelism);
  const auto num_chunks = static_cast<int64_t>(lengths.size());
  std::vector<LayerChunk> chunks;
  int64_t begin = 0;
  for (int64_t chunk = 0; chunk < num_chunks; begin += lengths[chunk++]) {
    if (job.parallelism.rank_of_chunk(chunk) != pipeline_rank) continue;
    chunks.push_back({begin, begin + lengths[chunk], chunk == 0, chunk + 1 == num_chunks});
  }
  return chunks;
}

std::vector<ParameterSpec> local_specs(const Job& job, int64_t rank) {
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  std::vector<ParameterSpec> specs = parameter_specs(job.model);
  const std::vector<LayerChunk> chunks = layer_chunks(job, position_in(groups.pipeline, rank));
  const auto is_here = [&](const ParameterSpec& spec) {
    return std::any_of(chunks.begin(), chunks.end(), [&](const LayerChunk& chunk) {
      if (spec.layer < 0) return chunk.has_embedding || (chunk.has_head && job.model.tie_embeddings);
      if (spec.layer == job.model.num_layers) return chunk.has_head;
      return chunk.begin <= spec.layer && spec.layer < chunk.end;
    });
  };
  std::erase_if(specs, [&](const ParameterSpec& spec) { return !is_here(spec); });
  if (job.parallelism.zero_stage == 3 && job.training.precision == Precision::kBf16) {
    for (ParameterSpec& spec : specs) {
      if (spec.name.ends_with(".router")) spec.group = ParameterGroup::kRouters;
    }
  }
  for (ParameterSpec& spec : specs) {
    const bool experts = spec.name.find(".experts.") != std::string::npos;
    experts ? split_experts(spec, groups, rank) : split_tensor(spec, groups.tensor, rank);
  }
  return specs;
}

int64_t num_elements(const std::vector<FlatRange>& ranges) {
  int64_t count = 0;
  for (const FlatRange& range : ranges) count += range.size();
  return count;
}

Holders holders_of(ParameterGroup group, const RankGroups& groups) {
  if (group == ParameterGroup::kSplitExperts) return {"expert_data", groups.expert_data};
  if (group == ParameterGroup::kSplitTensors || groups.tensor.size == 1) return {"data", groups.data_context};
  return {"stage", groups.stage};
}

SectionAlignment section_alignment(const Job& job) {
  if (job.parallelism.zero_stage == 0) return {};
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  const auto multiple = [&](ParameterGroup group) { return 16 * holders_of(group, groups).ranks.size; };
  return {.shared = multiple(ParameterGroup::kShared),
          .split_experts = multiple(ParameterGroup::kSplitExperts),
          .split_tensors = multiple(ParameterGroup::kSplitTensors),
          .by_layer = job.parallelism.zero_stage >= 2};
}

ParameterPlaces place_parameters(const std::vector<ParameterSpec>& specs, SectionAlignment alignment) {
  ParameterPlaces places;
  int64_t& total = places.num_elements;
  const auto add_section = [&](ParameterGroup group, WeightDecay decay, int64_t multiple) {
    const int64_t begin = total;
    const auto pad = [&] { total = begin + (total - begin + multiple - 1) / multiple * multiple; };
    int64_t layer = -1;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].group != group || specs[i].decay != decay) continue;
      if (alignment.by_layer && std::exchange(layer, specs[i].layer) != specs[i].layer) pad();
      places.tensors.emplace_back(i, total);
      total += padded_elements(specs[i].shape);
    }
    pad();
    places.sections.push_back({{begin, total}, group});
  };
  add_section(ParameterGroup::kSplitExperts, WeightDecay::kOn, alignment.split_experts);
  add_section(ParameterGroup::kSplitTensors, WeightDecay::kOn, alignment.split_tensors);
  add_section(ParameterGroup::kShared, WeightDecay::kOn, alignment.shared);
  add_section(ParameterGroup::kRouters, WeightDecay::kOn, alignment.shared);
  places.num_decayed = total;
  add_section(ParameterGroup::kShared, WeightDecay::kOff, alignment.shared);
  add_section(ParameterGroup::kSplitTensors, WeightDecay::kOff, alignment.split_tensors);
  return places;
}

std::vector<FlatRange> frozen_ranges(const std::vector<ParameterSpec>& specs, const ParameterPlaces& places,
                                     const TrainingConfig& training) {
  std::vector<FlatRange> ranges;
  for (const auto& [index, begin] : places.tensors) {
    if (!training.freezes(parameter_part(specs[index].name))) continue;
    ranges.push_back({begin, begin + padded_elements(specs[index].shape)});
  }
  return ranges;
}

int64_t common_elements(const std::vector<FlatRange>& a, const std::vector<FlatRange>& b) {
  int64_t count = 0;
  for (const FlatRange& one : a) {
    for (const FlatRange& other : b) {
      count += std::max<int64_t>(0, std::min(one.end, other.end) - std::max(one.begin, other.begin));
    }
  }
  return count;
}

std::vector<FlatRange> bucket_ranges(FlatRange section, int64_t group_size, int64_t bucket_elements) {
  const int64_t unit = 16 * group_size, size = std::max(unit, bucket_elements / unit * unit);
  std::vector<FlatRange> buckets;
  for (int64_t begin = section.begin; begin < section.end; begin += size) {
    buckets.push_back({begin, std::min(begin + size, section.end)});
  }
  return buckets;
}

namespace {

// A section cut where a layer's tensors begin.
std::vector<FlatRange> layer_ranges(FlatRange section, const std::vector<ParameterSpec>& specs,
                                    const ParameterPlaces& places) {
  std::vector<FlatRange> ranges;
  int64_t layer = 0;
  for (const auto& [index, begin] : places.tensors) {
    if (begin < section.begin || begin >= section.end) continue;
    if (ranges.empty() || specs[index].layer != layer) {
      if (!ranges.empty()) ranges.back().end = begin;
      ranges.push_back({begin, section.end});
      layer = specs[index].layer;
    }
  }
  return ranges;
}

}  // namespace

std::vector<ParameterBucket> parameter_buckets(const Job& job, const std::vector<ParameterSpec>& specs,
                                               const ParameterPlaces& places) {
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  std::vector<ParameterBucket> buckets;
  for (const Section& section : places.sections) {
    const int64_t ranks = holders_of(section.group, groups).ranks.size;
    for (const FlatRange& range : job.parallelism.zero_stage >= 2 ? layer_ranges(section.range, specs, places)
                                                                  : bucket_ranges(section.range, ranks)) {
      ParameterBucket bucket{range, section.group, job.model.num_layers, 0};
      for (const auto& [index, begin] : places.tensors) {
        if (begin >= range.end || begin + padded_elements(specs[index].shape) <= range.begin) continue;
        bucket.first_layer = std::min(bucket.first_layer, specs[index].layer);
      }
      const bool output = bucket.first_layer == job.model.num_layers && range.begin < places.num_decayed;
      bucket.unit = bucket.first_layer + (output ? 1 : 0);
      buckets.push_back(bucket);
    }
  }
  return buckets;
}

FlatRange share_of(FlatRange range, int64_t position, int64_t group_size) {
  const int64_t share = range.size() / group_size, begin = range.begin + position * share;
  return {begin, begin + share};
}

KeptRanges kept_ranges(const Job& job, int64_t rank) {
  if (job.parallelism.zero_stage < 2) return {};
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  const std::vector<ParameterSpec> specs = local_specs(job, rank);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  KeptRanges kept;
  for (const ParameterBucket& bucket : parameter_buckets(job, specs, places)) {
    const RankGroup ranks = holders_of(bucket.group, groups).ranks;
    kept.gradients.push_back(share_of(bucket.range, position_in(ranks, rank), ranks.size));
  }
  if (job.parallelism.zero_stage == 3) kept.weights = kept.gradients;
  return kept;
}

}  // namespace mmoe
