#pragma once
// The law of a sum of costs over layers and over independent draws, for every bound on a draw's own sum of k.

#include <cstdint>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/discrete_law.h"
#include "sim/elastic/elastic_law.h"
#include "sim/elastic/grid_law.h"

namespace mmoe {

// `count` independent draws of the same layers, each of which costs costs[l][k_l - k_min] in layer l.
struct DrawCosts {
  LayerCosts costs;
  int64_t count = 1;
};

// Of a sum of draws where its costs share no coarser unit: a compromise between its rounding and the time of
// convolving.
inline constexpr int64_t kMostCells = 1024;
inline constexpr int64_t kMostGridCells = 256;  // of the sum of many draws

// Real costs in whole cells: cost[l][j] <= least[l] + excess[l] + unit * cells[l][j], and by no more than rounding[l]
// less.
struct CostCells {
  double unit = 1;
  std::vector<std::vector<std::vector<int64_t>>> cells;  // [part][layer][k - k_min], the least 0
  double origin = 0;                                     // sum over parts, draws and layers of least + excess
  double rounding = 0;  // of all parts together; 0: the costs are multiples of the unit
};
// The coarsest unit of which all costs are multiples (to 1e-12 of the sum's range) and, where there is none that gives
// at most max_cells, the one that rounds least.
CostCells in_cells(const std::vector<DrawCosts>& parts, int64_t max_cells);

// The most that added[k - k_min] of n draws comes to where their k - k_min sum up to `extra`, or a little more where
// whole k cannot reach it.
double most_added(const std::vector<double>& added, int64_t n, int64_t extra);

// [sum of k_l - k_min][cell]: probability of one draw's sums over layers that cost cells[l][k_l - k_min], without a
// budget.
using CellsBySum = std::vector<std::vector<double>>;
CellsBySum cells_by_sum(const ElasticConfig& config, const std::vector<std::vector<int64_t>>& cells);

// The law of S, where draws are of granularity `layer` and keep a bound on their sum of k_l; the
// config's own budget is ignored. In cells S = origin() + unit() * cell: exactly where rounding() is 0; elsewhere S is
// the true sum or more, by at most rounding().
class DrawSum {
 public:
  // All parts have equally many layers, one at least.
  DrawSum(const ElasticConfig& config, const std::vector<DrawCosts>& parts, int64_t max_cells);

  double origin() const { return cells_.origin; }
  double unit() const { return cells_.unit; }
  double rounding() const { return cells_.rounding; }
  // The law in bytes: in these cells, or where they would be more than four times max_cells or round by more than 2 %
  // of the sum's range, on a grid of its own to which the sums of many draws are brought with their mean (GridLaw).
  bool is_in_cells() const { return part_cells_.empty(); }
  GridLaw law(BudgetKind kind, int64_t bound) const;
  // Kinds at_most and exact; the free law must allow the bound.
  DiscreteLaw cells(BudgetKind kind, int64_t bound) const;
  // Of one draw of a part alone.
  DiscreteLaw cells_of_draw(size_t part, BudgetKind kind, int64_t bound) const;

 private:
  int64_t least_sum_;  // of k
  CostCells cells_;
  std::vector<CostCells> part_cells_;  // each part's own, where not all are in the same cells
  std::vector<int64_t> counts_;
  double largest_ = 0;              // of the sum without a bound
  std::vector<CellsBySum> by_sum_;  // [part]
};

}  // namespace mmoe
