#include "sim/plan/rank_memory_law.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "sim/cluster/step_time.h"
#include "sim/config/pipeline_layout.h"
#include "sim/elastic/window_sampler.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

// The sum of k_l over some layers of one micro-batch; the grid's cells are the integers.
DiscreteLaw sum_over(const ElasticLaw& law, const std::vector<int64_t>& layers) {
  const int choices = law.k_max() - law.k_min() + 1;
  LayerCosts costs(static_cast<std::size_t>(law.num_layers()),
                   std::vector<double>(static_cast<std::size_t>(choices), 0));
  for (const int64_t layer : layers) {
    for (int i = 0; i < choices; ++i) costs[static_cast<std::size_t>(layer)][static_cast<std::size_t>(i)] = i;
  }
  const auto count = static_cast<int64_t>(layers.size());
  const int64_t range = count * (choices - 1);
  if (range == 0) return DiscreteLaw::certain(count * law.k_min());
  const GridLaw grid = law.additive_law(costs, range);  // one cell for each integer
  const int64_t least = std::llround(grid.least), largest = std::llround(grid.largest);
  std::vector<double> weights(static_cast<std::size_t>(largest - least + 1), 0.0);
  for (std::size_t i = 0; i < grid.cells.probabilities().size(); ++i) {
    const double value = grid.origin + grid.spacing * static_cast<double>(grid.cells.min() + static_cast<int64_t>(i));
    weights[static_cast<std::size_t>(
        std::clamp(std::llround(value), static_cast<long long>(least), static_cast<long long>(largest)) - least)] +=
        grid.cells.probabilities()[i];
  }
  return DiscreteLaw(count * law.k_min() + least, std::move(weights));
}

}  // namespace

std::vector<ElasticChunk> elastic_chunks(const Job& job, const std::vector<StageChunk>& held, int64_t rank) {
  int64_t left = chunks_in_flight(pipeline_shape(job), rank).total();
  std::vector<ElasticChunk> chunks;
  for (std::size_t i = 0; i < held.size(); ++i) {
    ElasticChunk chunk;
    for (int64_t layer = held[i].first_layer; layer < held[i].first_layer + held[i].num_layers; ++layer) {
      if (job.model.is_moe_layer(layer)) chunk.moe_layers.push_back(layer - job.model.num_dense_layers);
    }
    chunk.in_flight = i + 1 == held.size() ? left : std::min(left, job.parallelism.pipeline);
    left -= chunk.in_flight;
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

bool has_windows(const Job& job) {
  const std::optional<Budget>& budget = job.elastic.budget;
  if (!budget || budget->kind != BudgetKind::kWindow || job.elastic.granularity != Granularity::kLayer) return false;
  if (job.parallelism.virtual_pipeline > 1) return false;
  std::vector<int64_t> groups;
  for (const auto& layers : moe_layers_by_pipeline_rank(job.model, job.parallelism)) {
    if (!layers.empty()) groups.push_back(static_cast<int64_t>(layers.size()));
  }
  return groups == budget->groups;
}

std::vector<int64_t> window_widths(const Job& job) {
  std::vector<int64_t> widths;
  const auto layers = moe_layers_by_pipeline_rank(job.model, job.parallelism);
  for (std::size_t rank = 0; rank < layers.size(); ++rank) {
    if (layers[rank].empty()) continue;
    widths.push_back(chunks_in_flight(pipeline_shape(job), static_cast<int64_t>(rank)).total());
  }
  return widths;
}

InFlightLaw in_flight_law(const ElasticLaw& law, const std::vector<ElasticChunk>& chunks, int64_t num_micro_batches) {
  InFlightLaw result{DiscreteLaw::certain(0), 1};
  int64_t most = 1;
  for (const ElasticChunk& chunk : chunks) {
    if (chunk.moe_layers.empty() || chunk.in_flight == 0) continue;
    const DiscreteLaw one = sum_over(law, chunk.moe_layers);
    // One k for the whole step is the same in every micro-batch in flight.
    if (law.independent_draws(2) == 1) {
      std::vector<double> spread(static_cast<std::size_t>((one.max() - one.min()) * chunk.in_flight + 1), 0.0);
      for (int64_t value = one.min(); value <= one.max(); ++value) {
        spread[static_cast<std::size_t>((value - one.min()) * chunk.in_flight)] = one.probability(value);
      }
      result.sum = result.sum.convolve(DiscreteLaw(one.min() * chunk.in_flight, std::move(spread)));
    } else {
      result.sum = result.sum.convolve(one.sum_of(chunk.in_flight));
    }
    most = std::max(most, chunk.in_flight);
  }
  if (law.independent_draws(2) > 1) {
    result.windows_per_step = static_cast<double>(std::max<int64_t>(1, num_micro_batches - most + 1));
  }
  return result;
}

InFlightLaw window_in_flight(const Job& job, const ElasticChunk& chunk, std::size_t group) {
  constexpr int64_t kSteps = 200;
  const DiscreteLaw one = free_sum(job.elastic, static_cast<int64_t>(chunk.moe_layers.size()));
  const int64_t bound = std::min(job.elastic.budget->sum_k[group], chunk.in_flight * one.max());
  const WindowLaw law = window_law(one, bound, chunk.in_flight, job.num_micro_batches(), kSteps);
  std::vector<double> weights = law.largest_window.probabilities();
  weights.back() += 1.0 / kSteps;
  return {DiscreteLaw(law.largest_window.min(), std::move(weights)), 1};
}

}  // namespace mmoe
