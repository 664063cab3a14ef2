#include "sim/search/layout_candidate.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "sim/config/pipeline_layout.h"

namespace mmoe {

bool are_variants(const LayoutCandidate& a, const LayoutCandidate& b) {
  const auto base = [](const LayoutCandidate& one) {
    const ParallelismConfig& p = one.parallelism;
    return std::tie(p.tensor, p.sequence, p.context, p.context_kind, p.pipeline, p.schedule, p.virtual_pipeline,
                    p.expert, p.expert_tensor, p.zero_stage, one.micro_batch_size, one.recompute.full,
                    one.recompute.modules, one.expert_saving, one.dispatcher, one.overlap);
  };
  return base(a) == base(b);
}

Job with_layout(const Job& job, const LayoutCandidate& candidate) {
  Job result = job;
  result.parallelism = candidate.parallelism;
  result.training.micro_batch_size = candidate.micro_batch_size;
  result.training.recompute = candidate.recompute;
  result.training.expert_saving = candidate.expert_saving;
  result.training.moe.dispatcher = candidate.dispatcher;
  result.training.overlap = candidate.overlap;
  result.training.offload = candidate.offload;
  if (!job.elastic.budget || job.given.contains("elastic.budget.groups")) return result;
  // One group a pipeline rank, each with its share of the bound.
  Budget& budget = *result.elastic.budget;
  const int64_t bound = std::accumulate(budget.sum_k.begin(), budget.sum_k.end(), int64_t{0});
  budget.groups.clear();
  budget.sum_k.clear();
  budget.layers.clear();
  bool consecutive = true;
  for (const auto& layers : moe_layers_by_pipeline_rank(job.model, result.parallelism)) {
    if (layers.empty()) continue;
    const auto count = static_cast<int64_t>(layers.size());
    budget.groups.push_back(count);
    budget.layers.push_back(layers);
    budget.sum_k.push_back(
        std::clamp(bound * count / job.model.num_moe_layers(), count * job.elastic.k_min, count * job.elastic.k_max));
    consecutive &= layers.back() - layers.front() + 1 == count;
  }
  if (consecutive) budget.layers.clear();
  return result;
}

}  // namespace mmoe
