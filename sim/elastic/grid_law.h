#pragma once
// Laws on an equally spaced grid, for sums of many terms that share no unit (step time).

#include <cstdint>
#include <vector>

#include "sim/elastic/discrete_law.h"

namespace mmoe {

// X = origin + spacing * cell. A value between two grid points is split over both so that its mean stays: the mean is
// exact, the variance too large by exactly added_variance, and no outcome has moved by more than displacement.
struct GridLaw {
  double origin = 0;
  double spacing = 1;
  DiscreteLaw cells;
  double least = 0, largest = 0;  // bounds of the exact support
  double displacement = 0;
  double added_variance = 0;

  double mean() const { return origin + spacing * cells.mean(); }
  double std() const;               // with added_variance taken out
  double cdf(double x) const;       // P(X <= x)
  double quantile(double q) const;  // least grid point v with P(X <= v) >= q
  Summary summary() const;
  GridLaw scaled(double factor) const;                   // of factor * X, factor >= 0
  GridLaw plus_independent(const GridLaw& other) const;  // of the sum of independent X and Y of equal spacing
  GridLaw coarser() const;                               // on a grid of twice the spacing
  GridLaw resampled(double new_spacing) const;           // on a grid of any spacing from the same origin
  // Law of the sum of n independent copies, n >= 1, on a grid made coarser until it has at most max_cells cells; tails
  // below 1e-18 are dropped from the cells.
  GridLaw sum_of(int64_t n, int64_t max_cells = 4096) const;
};

// Of the sum of independent X of any spacings, on the coarsest of their grids.
GridLaw sum_of_independent(const std::vector<GridLaw>& laws);

// Puts real values on a grid of num_cells cells between the least and the largest.
GridLaw on_grid(const ValueLaw& law, int64_t num_cells);

}  // namespace mmoe
