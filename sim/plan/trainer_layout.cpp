#include "sim/plan/trainer_layout.h"

#include <algorithm>

#include "sim/config/pipeline_layout.h"
#include "sim/network/rank_groups.h"

namespace mmoe {

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
  const int64_t ranks = groups.expert.size, index = position_in(groups.expert, rank);
  if (ranks == 1) return specs;
  for (ParameterSpec& spec : specs) {
    if (spec.name.find(".experts.") == std::string::npos) continue;
    spec.part.full_shape = spec.shape;
    for (const int64_t size : spec.shape) spec.part.ranges.push_back({0, size});
    spec.shape[0] /= ranks;
    spec.part.ranges[0] = {index * spec.shape[0], spec.shape[0]};
    spec.group = ParameterGroup::kSplitExperts;
  }
  return specs;
}

SectionAlignment section_alignment(const Job& job) {
  if (job.parallelism.zero_stage == 0) return {};
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  return {16 * groups.data_context.size, 16 * groups.expert_data.size};
}

ParameterPlaces place_parameters(const std::vector<ParameterSpec>& specs, SectionAlignment alignment) {
  ParameterPlaces places;
  int64_t& total = places.num_elements;
  const auto add_section = [&](ParameterGroup group, WeightDecay decay, int64_t multiple) {
    const int64_t begin = total;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].group != group || specs[i].decay != decay) continue;
      places.tensors.emplace_back(i, total);
      total += padded_elements(specs[i].shape);
    }
    total = begin + (total - begin + multiple - 1) / multiple * multiple;
  };
  add_section(ParameterGroup::kSplitExperts, WeightDecay::kOn, alignment.split_experts);
  places.num_split_experts = total;
  add_section(ParameterGroup::kShared, WeightDecay::kOn, alignment.shared);
  places.num_decayed = total;
  add_section(ParameterGroup::kShared, WeightDecay::kOff, alignment.shared);
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

}  // namespace mmoe
