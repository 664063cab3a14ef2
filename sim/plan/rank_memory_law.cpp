#include "sim/plan/rank_memory_law.h"

#include <algorithm>
#include <cmath>

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

}  // namespace mmoe
