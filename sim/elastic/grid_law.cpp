#include "sim/elastic/grid_law.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kDroppedTail = 1e-18;

// Drops cells of both tails that hold less than kDroppedTail together.
void trim(GridLaw& law) {
  const std::vector<double>& p = law.cells.probabilities();
  size_t begin = 0, end = p.size();
  for (double tail = p[begin]; begin + 1 < end && tail < kDroppedTail; tail += p[++begin]) {
  }
  for (double tail = p[end - 1]; end - 1 > begin && tail < kDroppedTail; tail += p[--end - 1]) {
  }
  law.cells =
      DiscreteLaw(law.cells.min() + static_cast<int64_t>(begin),
                  std::vector<double>(p.begin() + static_cast<int64_t>(begin), p.begin() + static_cast<int64_t>(end)));
}

}  // namespace

double GridLaw::std() const { return std::sqrt(std::max(0.0, spacing * spacing * cells.variance() - added_variance)); }

double GridLaw::cdf(double x) const {
  // Within 1e-9 of a grid point x counts as that point: the points themselves carry rounding.
  return cells.cdf(static_cast<int64_t>(std::floor((x - origin) / spacing + 1e-9)));
}

double GridLaw::quantile(double q) const {
  return std::clamp(origin + spacing * static_cast<double>(cells.quantile(q)), least, largest);
}

Summary GridLaw::summary() const { return {mean(), std(), quantile(0.5), quantile(0.99), largest}; }

GridLaw GridLaw::scaled(double factor) const {
  MMOE_CHECK(factor >= 0) << factor;
  GridLaw law = *this;
  for (double* value : {&law.origin, &law.spacing, &law.least, &law.largest, &law.displacement}) *value *= factor;
  law.added_variance *= factor * factor;
  return law;
}

GridLaw GridLaw::plus_independent(const GridLaw& other) const {
  MMOE_CHECK(spacing == other.spacing) << spacing << " and " << other.spacing;
  return {origin + other.origin,
          spacing,
          cells.convolve(other.cells),
          least + other.least,
          largest + other.largest,
          displacement + other.displacement,
          added_variance + other.added_variance};
}

GridLaw GridLaw::coarser() const {
  const std::vector<double>& p = cells.probabilities();
  std::vector<double> coarse(p.size() / 2 + 1);
  double odd = 0;  // halved between two neighbours
  for (size_t i = 0; i < p.size(); ++i) {
    if (i % 2 == 0) {
      coarse[i / 2] += p[i];
    } else {
      coarse[i / 2] += p[i] / 2;
      coarse[i / 2 + 1] += p[i] / 2;
      odd += p[i];
    }
  }
  if (coarse.back() == 0) coarse.pop_back();
  GridLaw law = *this;
  law.origin += spacing * static_cast<double>(cells.min());
  law.spacing *= 2;
  law.displacement += odd > 0 ? spacing : 0;
  law.added_variance += odd * spacing * spacing;
  law.cells = DiscreteLaw(0, std::move(coarse));
  return law;
}

GridLaw GridLaw::resampled(double new_spacing) const {
  if (new_spacing == spacing) return *this;
  GridLaw law = *this;
  law.spacing = new_spacing;
  const double first = static_cast<double>(cells.min()) * spacing / new_spacing;
  const auto first_cell = static_cast<int64_t>(std::floor(first));
  const double last = static_cast<double>(cells.max()) * spacing / new_spacing;
  std::vector<double> weights(static_cast<size_t>(std::floor(last)) - static_cast<size_t>(first_cell) + 2);
  for (int64_t cell = cells.min(); cell <= cells.max(); ++cell) {
    const double p = cells.probability(cell), position = static_cast<double>(cell) * spacing / new_spacing;
    const auto below = static_cast<int64_t>(std::floor(position));
    const double share = position - static_cast<double>(below);
    weights[static_cast<size_t>(below - first_cell)] += p * (1 - share);
    weights[static_cast<size_t>(below - first_cell) + 1] += p * share;
    law.added_variance += p * share * (1 - share) * new_spacing * new_spacing;
  }
  law.displacement += new_spacing;
  while (weights.back() == 0) weights.pop_back();
  law.cells = DiscreteLaw(first_cell, std::move(weights));
  return law;
}

GridLaw sum_of_independent(const std::vector<GridLaw>& laws) {
  double spacing = 0;
  for (const GridLaw& law : laws) {
    if (law.cells.min() < law.cells.max()) spacing = std::max(spacing, law.spacing);
  }
  GridLaw sum;
  sum.spacing = spacing > 0 ? spacing : 1;
  for (const GridLaw& law : laws) sum = sum.plus_independent(law.resampled(sum.spacing));
  return sum;
}

GridLaw GridLaw::sum_of(int64_t n, int64_t max_cells) const {
  MMOE_CHECK(n >= 1 && max_cells >= 2) << n << ", " << max_cells;
  const auto add = [&](GridLaw a, GridLaw b) {
    while (a.spacing < b.spacing) a = a.coarser();
    while (b.spacing < a.spacing) b = b.coarser();
    GridLaw sum = a.plus_independent(b);
    trim(sum);
    while (static_cast<int64_t>(sum.cells.probabilities().size()) > max_cells) sum = sum.coarser();
    return sum;
  };
  GridLaw power = *this;
  GridLaw result;
  bool started = false;
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) result = started ? add(result, power) : power;
    started = started || n % 2 == 1;
    if (n > 1) power = add(power, power);
  }
  return result;
}

GridLaw on_grid(const ValueLaw& law, int64_t num_cells) {
  GridLaw grid;
  grid.origin = grid.least = law.min();
  grid.largest = law.max();
  const double range = law.max() - law.min();
  if (range == 0) return grid;
  grid.spacing = range / static_cast<double>(num_cells);
  std::vector<double> cells(static_cast<size_t>(num_cells) + 2);
  for (size_t i = 0; i < law.values().size(); ++i) {
    double position = (law.values()[i] - grid.origin) / grid.spacing;
    if (std::fabs(position - std::round(position)) < 1e-9) position = std::round(position);
    const auto cell = std::min(static_cast<int64_t>(position), num_cells);
    const double share = position - static_cast<double>(cell), p = law.probabilities()[i];
    cells[static_cast<size_t>(cell)] += p * (1 - share);
    cells[static_cast<size_t>(cell) + 1] += p * share;
    grid.added_variance += p * share * (1 - share) * grid.spacing * grid.spacing;
  }
  grid.displacement = grid.added_variance > 0 ? grid.spacing : 0;
  while (cells.back() == 0) cells.pop_back();
  grid.cells = DiscreteLaw(0, std::move(cells));
  return grid;
}

}  // namespace mmoe
