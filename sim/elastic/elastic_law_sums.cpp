// Laws and moments of sums of per-layer costs under ElasticLaw.

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/elastic/elastic_law.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

void check_shape(const ElasticLaw& law, const LayerCosts& costs) {
  MMOE_CHECK(static_cast<int>(costs.size()) == law.num_layers()) << costs.size() << " layers of costs";
  for (const auto& layer : costs) {
    MMOE_CHECK(static_cast<int>(layer.size()) == law.k_max() - law.k_min() + 1) << layer.size() << " costs in a layer";
  }
}

// The sum's value for each k that all layers share.
ValueLaw shared_sum(const ElasticLaw& law, const LayerCosts& costs) {
  std::vector<std::pair<double, double>> outcomes;
  for (int64_t k = law.shared_draw().min(); k <= law.shared_draw().max(); ++k) {
    double sum = 0;
    for (const auto& layer : costs) sum += layer[static_cast<size_t>(k - law.k_min())];
    if (law.shared_draw().probability(k) > 0) outcomes.emplace_back(sum, law.shared_draw().probability(k));
  }
  return ValueLaw(std::move(outcomes));
}

// Mean and variance of one group's sum, carried along the chain from its last layer to its first: for each sum r of the
// layers drawn, its probability and the probability-weighted first and second moments of what they cost. Costs are
// taken from their own mean, so that the variance does not cancel.
Moments group_moments(const GroupLaw& group, const LayerCosts& costs) {
  struct State {
    double probability = 0, first = 0, second = 0;
  };
  const std::vector<double> marginal = group.marginal();
  std::vector<State> states = {{1, 0, 0}};
  std::vector<double> p(marginal.size());
  double mean = 0;
  for (int left = group.size(); left >= 1; --left) {
    const auto& cost = costs[static_cast<size_t>(group.layer(left - 1))];
    double center = 0;
    for (size_t j = 0; j < p.size(); ++j) center += marginal[j] * cost[j];
    mean += center;
    std::vector<State> next(static_cast<size_t>(group.largest_drawn(left - 1)) + 1);
    for (size_t r = 0; r < states.size(); ++r) {
      if (states[r].probability == 0) continue;
      group.next_draw(left, static_cast<int64_t>(r), p.data());
      for (size_t j = 0; j < p.size() && r + j < next.size(); ++j) {
        const double c = cost[j] - center;
        State& to = next[r + j];
        to.probability += p[j] * states[r].probability;
        to.first += p[j] * (states[r].first + c * states[r].probability);
        to.second += p[j] * (states[r].second + 2 * c * states[r].first + c * c * states[r].probability);
      }
    }
    states = std::move(next);
  }
  State all;
  for (const State& state : states) {
    all.probability += state.probability;
    all.first += state.first;
    all.second += state.second;
  }
  const double first = all.first / all.probability;
  return {mean + first, std::max(0.0, all.second / all.probability - first * first)};
}

// Least and largest sum of one group's costs under its bound: by the sum of the layers drawn.
std::pair<double, double> group_range(const GroupLaw& group, const LayerCosts& costs) {
  std::vector<double> least = {0}, largest = {0};
  for (int left = group.size(); left >= 1; --left) {
    const auto& cost = costs[static_cast<size_t>(group.layer(left - 1))];
    const auto size = static_cast<size_t>(group.largest_drawn(left - 1)) + 1;
    std::vector<double> next_least(size, INFINITY), next_largest(size, -INFINITY);
    for (size_t r = 0; r < least.size(); ++r) {
      for (size_t j = 0; j < cost.size() && r + j < size; ++j) {
        next_least[r + j] = std::min(next_least[r + j], least[r] + cost[j]);
        next_largest[r + j] = std::max(next_largest[r + j], largest[r] + cost[j]);
      }
    }
    least = std::move(next_least);
    largest = std::move(next_largest);
  }
  if (group.kind() == SumBound::kExact) return {least.back(), largest.back()};
  return {*std::min_element(least.begin(), least.end()), *std::max_element(largest.begin(), largest.end())};
}

// A group's costs as slope * (k - k_min) and a remainder. The chain's own state r carries the first part exactly and
// only the remainder needs a grid; where no condition makes the chain keep r, the remainder is all (slope 0).
struct SplitCosts {
  double slope = 0;
  double origin = 0;                           // sum over layers of the least remainder, taken out of it
  double range = 0;                            // sum over layers of the largest remainder
  std::vector<std::vector<double>> remainder;  // [layer of the group][k - k_min], at least 0
};

SplitCosts split_costs(const GroupLaw& group, const LayerCosts& costs) {
  SplitCosts split;
  const auto steps = static_cast<double>((group.num_choices() - 1) * group.size());
  for (const int l : group.layers()) {
    const auto& cost = costs[static_cast<size_t>(l)];
    if (group.is_conditioned()) split.slope += (cost.back() - cost.front()) / steps;
  }
  for (const int l : group.layers()) {
    auto& remainder = split.remainder.emplace_back(costs[static_cast<size_t>(l)]);
    for (size_t j = 0; j < remainder.size(); ++j) remainder[j] -= split.slope * static_cast<double>(j);
    const double least = *std::min_element(remainder.begin(), remainder.end());
    for (double& value : remainder) value -= least;
    split.origin += least;
    split.range += *std::max_element(remainder.begin(), remainder.end());
  }
  return split;
}

// A value in cells: its cell and the share of the next one, 0 for whole numbers (to rounding).
struct CellShare {
  size_t cell;
  double upper;
  explicit CellShare(double value) {
    const double nearest = std::round(value);
    if (std::fabs(value - nearest) < 1e-9) value = nearest;
    cell = static_cast<size_t>(value);
    upper = value - static_cast<double>(cell);
  }
  double variance() const { return upper * (1 - upper); }
};

GridLaw group_sum(const GroupLaw& group, const SplitCosts& split, double spacing) {
  const auto num_choices = static_cast<size_t>(group.num_choices());
  const bool tracked = group.is_conditioned();
  GridLaw law;
  law.spacing = spacing;
  law.origin = split.origin;
  std::vector<std::vector<double>> states = {{1}};  // [r][cell]
  std::vector<double> p(num_choices);
  for (int left = group.size(); left >= 1; --left) {
    const auto& remainder = split.remainder[static_cast<size_t>(left) - 1];
    std::vector<CellShare> shares;
    for (const double value : remainder) shares.emplace_back(value / spacing);
    if (std::any_of(shares.begin(), shares.end(), [](const CellShare& s) { return s.upper > 0; })) {
      law.displacement += spacing;
    }
    std::vector<std::vector<double>> next(tracked ? static_cast<size_t>(group.largest_drawn(left - 1)) + 1 : 1);
    for (size_t r = 0; r < states.size(); ++r) {
      if (states[r].empty()) continue;
      group.next_draw(left, static_cast<int64_t>(r), p.data());
      double all = 0;
      for (const double probability : states[r]) all += probability;
      for (size_t j = 0; j < num_choices; ++j) {
        if (p[j] == 0) continue;
        const auto [cell, upper] = shares[j];
        std::vector<double>& to = next[tracked ? r + j : 0];
        to.resize(std::max(to.size(), states[r].size() + cell + (upper > 0 ? 1 : 0)));
        const double low = p[j] * (1 - upper), high = p[j] * upper;
        for (size_t i = 0; i < states[r].size(); ++i) to[i + cell] += low * states[r][i];
        if (upper > 0) {
          for (size_t i = 0; i < states[r].size(); ++i) to[i + cell + 1] += high * states[r][i];
        }
        law.added_variance += all * p[j] * shares[j].variance() * spacing * spacing;
      }
    }
    states = std::move(next);
  }
  // slope * r joins the grid at the end.
  const double per_sum = split.slope / spacing;
  const double least_shift = std::min(0.0, per_sum * static_cast<double>(states.size() - 1));
  law.origin += least_shift * spacing;
  std::vector<double> cells;
  bool moved = false;
  for (size_t r = 0; r < states.size(); ++r) {
    const CellShare share(per_sum * static_cast<double>(r) - least_shift);
    cells.resize(std::max(cells.size(), share.cell + states[r].size() + 1));
    for (size_t i = 0; i < states[r].size(); ++i) {
      cells[share.cell + i] += states[r][i] * (1 - share.upper);
      cells[share.cell + i + 1] += states[r][i] * share.upper;
      law.added_variance += states[r][i] * share.variance() * spacing * spacing;
    }
    moved = moved || (share.upper > 0 && !states[r].empty());
  }
  if (moved) law.displacement += spacing;
  while (cells.size() > 1 && cells.back() == 0) cells.pop_back();
  law.cells = DiscreteLaw(0, std::move(cells));
  return law;
}

// Multiplications that group_sum takes.
double work(const GroupLaw& group, const SplitCosts& split, double spacing) {
  const double sums = group.is_conditioned() ? static_cast<double>(group.bound()) + 1 : 1;
  return sums * (split.range / spacing + 1) * group.num_choices() * group.size();
}

}  // namespace

Moments ElasticLaw::moments(const LayerCosts& costs) const {
  check_shape(*this, costs);
  if (one_k_for_all_layers()) {
    const ValueLaw values = shared_sum(*this, costs);
    return {values.mean(), values.std() * values.std()};
  }
  Moments all;
  for (const GroupLaw& group : groups_) {
    const Moments moments = group_moments(group, costs);
    all.mean += moments.mean;
    all.variance += moments.variance;
  }
  return all;
}

GridLaw ElasticLaw::additive_law(const LayerCosts& costs, int64_t num_cells) const {
  check_shape(*this, costs);
  MMOE_CHECK(num_cells >= 1) << num_cells;
  if (one_k_for_all_layers()) return on_grid(shared_sum(*this, costs), num_cells);
  double least = 0, largest = 0, range = 0;
  for (const auto& layer : costs) {
    range += *std::max_element(layer.begin(), layer.end()) - *std::min_element(layer.begin(), layer.end());
  }
  for (const GroupLaw& group : groups_) {
    const auto [group_least, group_largest] = group_range(group, costs);
    least += group_least;
    largest += group_largest;
  }
  GridLaw law;
  law.spacing = range > 0 ? range / static_cast<double>(num_cells) : 1;
  // Layers are added on a grid up to 16 times finer, as far as the work stays small, and coarser where it must.
  constexpr double kMostWork = 3e8;
  std::vector<SplitCosts> splits;
  for (const GroupLaw& group : groups_) splits.push_back(split_costs(group, costs));
  const auto total_work = [&](double spacing) {
    double sum = 0;
    for (size_t g = 0; g < groups_.size(); ++g) sum += work(groups_[g], splits[g], spacing);
    return sum;
  };
  double fine = law.spacing / 16;
  while (total_work(fine) > kMostWork && fine < range) fine *= 2;
  law.spacing = std::max(law.spacing, fine);
  for (size_t g = 0; g < groups_.size(); ++g) {
    GridLaw group = group_sum(groups_[g], splits[g], fine);
    while (group.spacing < law.spacing) group = group.coarser();
    law = law.plus_independent(group);
  }
  law.least = least;
  law.largest = largest;
  return law;
}

GridLaw ElasticLaw::additive_law_of_step(const LayerCosts& costs, int64_t num_micro_batches, int64_t num_cells) const {
  MMOE_CHECK(num_micro_batches >= 1) << num_micro_batches;
  const GridLaw one = additive_law(costs, num_cells);
  if (granularity_ == Granularity::kGlobalBatch) return one.scaled(static_cast<double>(num_micro_batches));
  return one.sum_of(num_micro_batches);
}

}  // namespace mmoe
