#include "train/parallel/local_parameters.h"

#include <algorithm>

#include "sim/config/pipeline_layout.h"

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

std::vector<ParameterSpec> local_specs(const Job& job, const ProcessGroups& groups, std::vector<ParameterSpec> specs) {
  const std::vector<LayerChunk> chunks = layer_chunks(job, groups.stage());
  const auto is_here = [&](const ParameterSpec& spec) {
    return std::any_of(chunks.begin(), chunks.end(), [&](const LayerChunk& chunk) {
      if (spec.layer < 0) return chunk.has_embedding || (chunk.has_head && job.model.tie_embeddings);
      if (spec.layer == job.model.num_layers) return chunk.has_head;
      return chunk.begin <= spec.layer && spec.layer < chunk.end;
    });
  };
  std::erase_if(specs, [&](const ParameterSpec& spec) { return !is_here(spec); });
  const int64_t ranks = groups.layout.expert.size, index = position_in(groups.layout.expert, groups.rank);
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

SectionAlignment section_alignment(const Job& job, const ProcessGroups& groups) {
  if (job.parallelism.zero_stage == 0) return {};
  return {16 * groups.layout.data_context.size, 16 * groups.layout.expert_data.size};
}

}  // namespace mmoe
