#include "sim/elastic/draw_sum.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kExactness = 1e-12;  // of the sum's range
constexpr double kMostRounding = 0.02;

double range_of(const std::vector<double>& costs) {
  const auto [least, most] = std::minmax_element(costs.begin(), costs.end());
  return *most - *least;
}

CostCells rounded(const std::vector<DrawCosts>& parts, double unit) {
  CostCells result;
  result.unit = unit;
  for (const DrawCosts& part : parts) {
    auto& layers = result.cells.emplace_back();
    for (const std::vector<double>& costs : part.costs) {
      const double least = *std::min_element(costs.begin(), costs.end());
      auto& cells = layers.emplace_back();
      double excess = 0, surplus = 0;  // of the costs over their cells, and of the cells over their costs
      for (const double cost : costs) {
        cells.push_back(std::llround((cost - least) / unit));
        const double error = cost - least - unit * static_cast<double>(cells.back());
        excess = std::max(excess, error);
        surplus = std::max(surplus, -error);
      }
      result.origin += static_cast<double>(part.count) * (least + excess);
      result.rounding += static_cast<double>(part.count) * (excess + surplus);
    }
  }
  return result;
}

}  // namespace

CostCells in_cells(const std::vector<DrawCosts>& parts, int64_t max_cells) {
  double range = 0, largest = 0;
  int64_t choices = 1;
  for (const DrawCosts& part : parts) {
    for (const std::vector<double>& costs : part.costs) {
      range += static_cast<double>(part.count) * range_of(costs);
      largest = std::max(largest, range_of(costs));
      choices = std::max(choices, static_cast<int64_t>(costs.size()));
    }
  }
  if (range == 0) return rounded(parts, 1);
  // A straight line needs one cell for each k.
  const auto most = std::max<int64_t>(
      choices - 1, static_cast<int64_t>(std::min(largest / range * static_cast<double>(max_cells), 1e6)));
  CostCells best;
  for (int64_t cells = 1; cells <= most; ++cells) {
    CostCells now = rounded(parts, largest / static_cast<double>(cells));
    if (cells == 1 || now.rounding < best.rounding) best = std::move(now);
    if (best.rounding <= kExactness * range) {
      best.rounding = 0;
      break;
    }
  }
  return best;
}

double most_added(const std::vector<double>& added, int64_t n, int64_t extra) {
  const double mean = static_cast<double>(extra) / static_cast<double>(n);
  double most = 0;
  for (size_t low = 0; low < added.size() && static_cast<double>(low) <= mean; ++low) {
    most = std::max(most, static_cast<double>(low) == mean ? added[low] : 0);
    for (size_t high = low + 1; high < added.size(); ++high) {
      if (static_cast<double>(high) < mean) continue;
      const double share = (mean - static_cast<double>(low)) / static_cast<double>(high - low);
      most = std::max(most, added[low] + share * (added[high] - added[low]));
    }
  }
  return static_cast<double>(n) * most;
}

CellsBySum cells_by_sum(const ElasticConfig& config, const std::vector<std::vector<int64_t>>& cells) {
  const std::vector<double> draw = free_sum(config, 1).probabilities();
  CellsBySum table = {{1}};
  for (const std::vector<int64_t>& layer : cells) {
    MMOE_CHECK(layer.size() == draw.size()) << layer.size() << " choices in a layer";
    CellsBySum next(table.size() + draw.size() - 1);
    for (size_t sum = 0; sum < table.size(); ++sum) {
      const std::vector<double>& from = table[sum];
      for (size_t j = 0; j < draw.size(); ++j) {
        const auto cell = static_cast<size_t>(layer[j]);
        std::vector<double>& to = next[sum + j];
        to.resize(std::max(to.size(), from.size() + cell));
        for (size_t i = 0; i < from.size(); ++i) to[i + cell] += from[i] * draw[j];
      }
    }
    table = std::move(next);
  }
  return table;
}

DrawSum::DrawSum(const ElasticConfig& config, const std::vector<DrawCosts>& parts, int64_t max_cells)
    : cells_(in_cells(parts, max_cells)) {
  MMOE_CHECK(config.granularity == Granularity::kLayer && !parts.empty()) << parts.size() << " parts";
  const auto num_layers = parts.front().costs.size();
  least_sum_ = static_cast<int64_t>(num_layers) * config.k_min;
  double range = 0;
  int64_t most_cells = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    for (size_t l = 0; l < parts[p].costs.size(); ++l) {
      const std::vector<double>& costs = parts[p].costs[l];
      range += static_cast<double>(parts[p].count) * range_of(costs);
      largest_ += static_cast<double>(parts[p].count) * *std::max_element(costs.begin(), costs.end());
      most_cells += parts[p].count * *std::max_element(cells_.cells[p][l].begin(), cells_.cells[p][l].end());
    }
  }
  if (most_cells > 4 * max_cells || cells_.rounding > kMostRounding * range) {
    for (const DrawCosts& part : parts) part_cells_.push_back(in_cells({{part.costs, 1}}, max_cells));
  }
  for (size_t p = 0; p < parts.size(); ++p) {
    MMOE_CHECK(parts[p].costs.size() == num_layers && num_layers >= 1) << parts[p].costs.size() << " layers";
    counts_.push_back(parts[p].count);
    by_sum_.push_back(cells_by_sum(config, is_in_cells() ? cells_.cells[p] : part_cells_[p].cells.front()));
  }
}

DiscreteLaw DrawSum::cells_of_draw(size_t part, BudgetKind kind, int64_t bound) const {
  MMOE_CHECK(kind != BudgetKind::kWindow) << "a window is no bound on one draw";
  const auto& table = by_sum_[part];
  const int64_t last = std::min(bound - least_sum_, static_cast<int64_t>(table.size()) - 1);
  MMOE_CHECK(last >= 0) << bound << " below " << least_sum_;
  std::vector<double> weights;
  for (auto sum = static_cast<size_t>(kind == BudgetKind::kExact ? last : 0); sum <= static_cast<size_t>(last); ++sum) {
    weights.resize(std::max(weights.size(), table[sum].size()));
    for (size_t i = 0; i < table[sum].size(); ++i) weights[i] += table[sum][i];
  }
  const auto positive = [](double weight) { return weight > 0; };
  const auto begin = std::find_if(weights.begin(), weights.end(), positive);
  const auto end = std::find_if(weights.rbegin(), weights.rend(), positive).base();
  MMOE_CHECK(begin < end) << "no draw keeps " << bound;
  return DiscreteLaw(begin - weights.begin(), {begin, end});
}

DiscreteLaw DrawSum::cells(BudgetKind kind, int64_t bound) const {
  MMOE_CHECK(is_in_cells()) << "each part has cells of its own";
  DiscreteLaw sum = DiscreteLaw::certain(0);
  for (size_t p = 0; p < by_sum_.size(); ++p) {
    sum = sum.convolve(cells_of_draw(p, kind, bound).sum_of(counts_[p]));
  }
  return sum;
}

GridLaw DrawSum::law(BudgetKind kind, int64_t bound) const {
  const auto on_grid = [](const CostCells& costs, DiscreteLaw cells) {
    GridLaw law{costs.origin, costs.unit, std::move(cells)};
    law.least = law.origin + law.spacing * static_cast<double>(law.cells.min());
    law.largest = law.origin + law.spacing * static_cast<double>(law.cells.max());
    return law;
  };
  if (is_in_cells()) {
    GridLaw law = on_grid(cells_, cells(kind, bound));
    law.largest = std::min(law.largest, largest_);  // no rounding up passes it
    return law;
  }
  std::vector<GridLaw> parts;
  for (size_t p = 0; p < by_sum_.size(); ++p) {
    parts.push_back(on_grid(part_cells_[p], cells_of_draw(p, kind, bound)).sum_of(counts_[p], kMostGridCells));
  }
  return sum_of_independent(parts);
}

}  // namespace mmoe
