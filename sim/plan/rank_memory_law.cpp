#include "sim/plan/rank_memory_law.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "sim/cluster/step_time.h"
#include "sim/config/pipeline_layout.h"
#include "sim/elastic/draw_sum.h"
#include "sim/elastic/window_sampler.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

// The sum of cells[k_l - k_min] over some layers of one micro-batch.
DiscreteLaw sum_over(const ElasticLaw& law, const std::vector<int64_t>& layers, const std::vector<int64_t>& cells) {
  const int64_t most = *std::max_element(cells.begin(), cells.end());
  if (law.one_k_for_all_layers()) {
    const auto count = static_cast<int64_t>(layers.size());
    std::vector<double> weights(static_cast<std::size_t>(count * most) + 1);
    const DiscreteLaw& draw = law.shared_draw();
    for (int64_t k = draw.min(); k <= draw.max(); ++k) {
      weights[static_cast<std::size_t>(count * cells[static_cast<std::size_t>(k - law.k_min())])] +=
          draw.probability(k);
    }
    return DiscreteLaw(0, std::move(weights));
  }
  DiscreteLaw sum = DiscreteLaw::certain(0);
  std::vector<double> p(cells.size());
  for (const GroupLaw& group : law.groups()) {
    const auto counts = std::count_if(layers.begin(), layers.end(), [&](int64_t layer) {
      return std::find(group.layers().begin(), group.layers().end(), layer) != group.layers().end();
    });
    if (!group.is_conditioned()) {
      std::vector<double> one(static_cast<std::size_t>(most) + 1);
      group.next_draw(group.size(), 0, p.data());
      for (std::size_t j = 0; j < p.size(); ++j) one[static_cast<std::size_t>(cells[j])] += p[j];
      sum = sum.convolve(DiscreteLaw(0, std::move(one)).sum_of(counts));
      continue;
    }
    // The layers of a group are exchangeable, so these may be the first that are drawn: [sum of k - k_min][cell].
    std::vector<std::vector<double>> states = {{1}};
    for (int drawn = 0; drawn < counts; ++drawn) {
      const int left = group.size() - drawn;
      std::vector<std::vector<double>> next(static_cast<std::size_t>(group.largest_drawn(left - 1)) + 1);
      for (std::size_t r = 0; r < states.size(); ++r) {
        if (states[r].empty()) continue;
        group.next_draw(left, static_cast<int64_t>(r), p.data());
        for (std::size_t j = 0; j < p.size() && r + j < next.size(); ++j) {
          if (p[j] == 0) continue;
          const auto cell = static_cast<std::size_t>(cells[j]);
          std::vector<double>& to = next[r + j];
          to.resize(std::max(to.size(), states[r].size() + cell));
          for (std::size_t i = 0; i < states[r].size(); ++i) to[i + cell] += states[r][i] * p[j];
        }
      }
      states = std::move(next);
    }
    std::vector<double> weights;
    for (const std::vector<double>& of_sum : states) {
      weights.resize(std::max(weights.size(), of_sum.size()));
      for (std::size_t i = 0; i < of_sum.size(); ++i) weights[i] += of_sum[i];
    }
    sum = sum.convolve(DiscreteLaw(0, std::move(weights)));
  }
  return sum;
}

}  // namespace

std::vector<ElasticChunk> elastic_chunks(const Job& job, const std::vector<StageChunk>& held, int64_t rank) {
  const PipelineShape shape = pipeline_shape(job);
  const int64_t passes = chunks_in_flight(shape, rank).total(), turn = shape.group_size();
  const auto num_chunks = static_cast<int64_t>(held.size());
  std::vector<ElasticChunk> chunks;
  for (int64_t i = 0; i < num_chunks; ++i) {
    const StageChunk& from = held[static_cast<std::size_t>(i)];
    ElasticChunk chunk;
    for (int64_t layer = from.first_layer; layer < from.first_layer + from.num_layers; ++layer) {
      if (job.model.is_moe_layer(layer)) chunk.moe_layers.push_back(layer - job.model.num_dense_layers);
    }
    if (shape.is_v_shaped()) {
      chunk.in_flight = std::min(shape.num_micro_batches, i == 0 ? 2 * shape.pipeline - rank - 1 : rank + 1);
    } else {
      chunk.in_flight =
          passes / (turn * num_chunks) * turn + std::clamp<int64_t>(passes % (turn * num_chunks) - i * turn, 0, turn);
    }
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

InFlightLaw in_flight_law(const ElasticLaw& law, const std::vector<ElasticChunk>& chunks, int64_t num_micro_batches,
                          const std::vector<int64_t>& cells) {
  InFlightLaw result{DiscreteLaw::certain(0), 1};
  int64_t held = 0;
  for (const ElasticChunk& chunk : chunks) {
    held += chunk.in_flight;
    if (chunk.moe_layers.empty() || chunk.in_flight == 0) continue;
    const DiscreteLaw one = sum_over(law, chunk.moe_layers, cells);
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
  }
  if (law.independent_draws(2) > 1) {
    const auto passes = num_micro_batches * static_cast<int64_t>(chunks.size());
    result.windows_per_step = static_cast<double>(std::max<int64_t>(1, passes - held + 1));
  }
  return result;
}

GridLaw in_flight_of_others(const ElasticLaw& law, const std::vector<ElasticChunk>& chunks, int64_t others,
                            const std::vector<double>& costs) {
  const CostCells cells = in_cells({{{costs}, 1}}, kMostCells);
  std::vector<GridLaw> sums;
  for (const ElasticChunk& chunk : chunks) {
    if (chunk.moe_layers.empty() || chunk.in_flight == 0) continue;
    GridLaw one{cells.origin * static_cast<double>(chunk.moe_layers.size()), cells.unit,
                sum_over(law, chunk.moe_layers, cells.cells.front().front())};
    one.least = one.origin + one.spacing * static_cast<double>(one.cells.min());
    one.largest = one.origin + one.spacing * static_cast<double>(one.cells.max());
    sums.push_back(one.sum_of(chunk.in_flight * others, kMostGridCells));
  }
  return sum_of_independent(sums);
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
