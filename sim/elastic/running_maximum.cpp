#include "sim/elastic/running_maximum.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kBelowAll = std::numeric_limits<int64_t>::min() / 2;
constexpr int64_t kAboveAll = -kBelowAll;
constexpr size_t kMaxStates = 2'000'000;

// The terms in integer units of a power of two, so that equal maxima are equal numbers and can be merged. The sums of
// k_l - k_min take the place of the sums of k_l.
struct UnitTerms {
  double unit = 1;
  int64_t slope = 0;
  std::vector<int64_t> fixed;
  size_t num_choices = 0;
  std::vector<std::vector<int64_t>> bump, surplus;  // surplus: empty where there is none

  int64_t value(size_t layer, size_t j) const { return fixed[layer] + bump[layer][j]; }
};

void check_shape(const ElasticLaw& law, const RunningMaximumTerms& terms) {
  const auto layers = static_cast<size_t>(law.num_layers());
  MMOE_CHECK(terms.fixed.size() == layers && terms.bump.size() == layers) << terms.fixed.size() << " layers";
  MMOE_CHECK(terms.slope >= 0 && std::isfinite(terms.slope)) << "slope " << terms.slope;
  MMOE_CHECK(terms.surplus.empty() || terms.surplus.size() == layers) << terms.surplus.size() << " layers";
  for (const LayerCosts& costs : {terms.bump, terms.surplus}) {
    for (const auto& cost : costs) {
      MMOE_CHECK(static_cast<int>(cost.size()) == law.k_max() - law.k_min() + 1) << cost.size() << " values of k";
    }
  }
  int next = 0;
  for (const GroupLaw& group : law.groups()) {
    for (const int layer : group.layers()) MMOE_CHECK(layer == next++) << "groups must be runs of layers; see of_group";
  }
}

UnitTerms in_units(const ElasticLaw& law, const RunningMaximumTerms& terms) {
  const auto highest = [](const std::vector<double>& values) {
    double most = 0;
    for (const double value : values) most = std::max(most, std::fabs(value));
    return most;
  };
  double largest = 0, kept = 0;
  for (size_t l = 0; l < terms.fixed.size(); ++l) {
    kept += terms.slope * law.k_max() + (terms.surplus.empty() ? 0 : highest(terms.surplus[l]));
    largest = std::max(largest, std::fabs(terms.fixed[l]) + highest(terms.bump[l]) + kept);
  }
  UnitTerms units;
  if (largest > 0) units.unit = std::ldexp(1.0, std::ilogb(largest) + 1 - 60);
  const auto rounded = [&](double value) { return std::llround(value / units.unit); };
  units.slope = rounded(terms.slope);
  for (size_t l = 0; l < terms.fixed.size(); ++l) {
    units.fixed.push_back(rounded(terms.fixed[l]) + units.slope * law.k_min() * static_cast<int64_t>(l + 1));
    auto& bump = units.bump.emplace_back();
    for (const double b : terms.bump[l]) bump.push_back(rounded(b));
  }
  for (const auto& values : terms.surplus) {
    auto& surplus = units.surplus.emplace_back();
    for (const double s : values) surplus.push_back(rounded(s));
  }
  units.num_choices = units.bump.front().size();
  return units;
}

// The pass from the last layer to the first. With r the sum of the group's layers passed and `offset` the largest of
// fixed[l'] + bump[l'][k_l'] - slope * (sum after l') over the layers l' passed, the maximum over those layers is
// slope * (sum of all layers) + offset; so (r, offset) is all that the past leaves behind. Once no earlier layer can
// reach a state's maximum it is settled: only the law of the remaining sum is still to be convolved. With a surplus
// `offset` also holds that of the layers passed, and nothing settles before the first layer.
class BackwardPass {
 public:
  BackwardPass(const ElasticLaw& law, const UnitTerms& terms) : law_(law), terms_(terms) {
    // best_before_[l]: no layer before l can exceed this, relative to the sum of the layers before l.
    best_before_.assign(terms.fixed.size() + 1, kBelowAll);
    for (size_t l = 0; l < terms.fixed.size(); ++l) {
      const int64_t bump = *std::max_element(terms.bump[l].begin(), terms.bump[l].end());
      best_before_[l + 1] = terms.surplus.empty() ? std::max(best_before_[l], terms.fixed[l] + bump) : kAboveAll;
    }
    sums_before_.emplace_back();
    for (const GroupLaw& group : law.groups()) sums_before_.push_back(sums_before_.back().convolve(group.sum()));
    std::map<int64_t, double> maxima = {{kBelowAll, 1.0}};  // of the layers after the group, relative to the sum before
    for (size_t g = law.groups().size(); g-- > 0;) {
      run_group(g, maxima);
      maxima.clear();
      for (const Row& row : rows_) {
        for (size_t r = 0; r < row.mass.size(); ++r) {
          if (row.mass[r] > 0) maxima[row.offset + terms_.slope * static_cast<int64_t>(r)] += row.mass[r];
        }
      }
      total_grid_ += grid_ > 1 ? grid_ : 0;
    }
  }

  // [offset][sum of k_l - k_min] -> probability; M = offset + slope * sum.
  const std::map<int64_t, std::vector<double>>& settled() const { return settled_; }
  int64_t rounding() const { return total_grid_; }

 private:
  struct Row {
    int64_t offset;
    std::vector<double> mass;  // [r]
  };

  void run_group(size_t g, const std::map<int64_t, double>& maxima) {
    const GroupLaw& group = law_.groups()[g];
    grid_ = 1;
    rows_.clear();
    for (const auto& [maximum, mass] : maxima) rows_.push_back({maximum, {mass}});
    for (int left = group.size(); left >= 1 && !rows_.empty(); --left) {
      pass_layer(group, left);
      settle(g, group, left - 1);
      while (num_states() > kMaxStates) coarsen();
    }
  }

  void pass_layer(const GroupLaw& group, int left) {
    const auto layer = static_cast<size_t>(group.layer(left - 1));
    const size_t num_choices = terms_.num_choices;
    const auto next_size = static_cast<size_t>(group.largest_drawn(left - 1)) + 1;
    size_t num_sums = 0;
    for (const Row& row : rows_) num_sums = std::max(num_sums, row.mass.size());
    // A row's offset rises by the surplus of the choice, so each choice has rows of its own.
    std::vector<int64_t> rise(num_choices, 0);
    if (!terms_.surplus.empty()) {
      for (size_t j = 0; j < num_choices; ++j) rise[j] = on_grid(terms_.surplus[layer][j]);
      total_grid_ += grid_ > 1 ? grid_ : 0;
    }
    const size_t stride = terms_.surplus.empty() ? 0 : rows_.size();
    std::vector<Row> next(terms_.surplus.empty() ? rows_.size() : rows_.size() * num_choices);
    for (size_t i = 0; i < next.size(); ++i) {
      const Row& row = rows_[i % rows_.size()];
      next[i].offset = row.offset + rise[i / rows_.size()];
      next[i].mass.assign(std::min(row.mass.size() + num_choices - 1, next_size), 0);
    }
    std::map<int64_t, std::vector<double>> raised;  // states whose offset this layer sets
    std::vector<double> p(num_choices), below(rows_.size() + 1);
    for (size_t r = 0; r < num_sums; ++r) {
      for (size_t i = 0; i < rows_.size(); ++i)
        below[i + 1] = below[i] + (r < rows_[i].mass.size() ? rows_[i].mass[r] : 0);
      if (below.back() == 0) continue;
      group.next_draw(left, static_cast<int64_t>(r), p.data());
      for (size_t j = 0; j < num_choices && r + j < next_size; ++j) {
        if (p[j] == 0) continue;
        const int64_t offset = on_grid(terms_.value(layer, j) - terms_.slope * static_cast<int64_t>(r));
        const auto first =
            static_cast<size_t>(std::lower_bound(rows_.begin(), rows_.end(), offset,
                                                 [](const Row& row, int64_t o) { return row.offset < o; }) -
                                rows_.begin());
        if (below[first] > 0) {
          std::vector<double>& to = raised[offset + rise[j]];
          if (to.size() <= r + j) to.resize(r + j + 1);
          to[r + j] += below[first] * p[j];
        }
        for (size_t i = first; i < rows_.size(); ++i) {
          if (r < rows_[i].mass.size()) next[j * stride + i].mass[r + j] += rows_[i].mass[r] * p[j];
        }
      }
    }
    for (auto& [offset, mass] : raised) next.push_back({offset, std::move(mass)});
    rows_ = std::move(next);
    merge();
  }

  // Moves states to settled_ that no layer before can raise; num_left layers of the group are still to come.
  void settle(size_t g, const GroupLaw& group, int num_left) {
    const int64_t threshold = best_before_[static_cast<size_t>(group.layer(0) + num_left)];
    std::vector<std::optional<DiscreteLaw>> rest;  // [r]: of the sum of all layers to come
    for (Row& row : rows_) {
      for (size_t r = 0; r < row.mass.size(); ++r) {
        const auto drawn = static_cast<int64_t>(r);
        if (row.mass[r] == 0 || row.offset + terms_.slope * drawn < threshold) continue;
        if (rest.size() <= r) rest.resize(r + 1);
        if (!rest[r]) rest[r] = DiscreteLaw(0, group.rest(num_left, drawn)).convolve(sums_before_[g]);
        std::vector<double>& to = settled_[row.offset];
        const size_t first = r + static_cast<size_t>(rest[r]->min());
        const std::vector<double>& p = rest[r]->probabilities();
        if (to.size() < first + p.size()) to.resize(first + p.size());
        for (size_t t = 0; t < p.size(); ++t) to[first + t] += row.mass[r] * p[t];
        row.mass[r] = 0;
      }
    }
    std::erase_if(rows_, [](const Row& row) {
      return std::all_of(row.mass.begin(), row.mass.end(), [](double mass) { return mass == 0; });
    });
  }

  // Rounds up to a multiple of the grid.
  int64_t on_grid(int64_t offset) const {
    const int64_t remainder = offset % grid_;
    return remainder > 0 ? offset + grid_ - remainder : offset - remainder;
  }

  void coarsen() {
    const int64_t range = rows_.back().offset - rows_.front().offset;
    while (grid_ < range / 1024) grid_ *= 2;
    grid_ *= 2;
    for (Row& row : rows_) row.offset = on_grid(row.offset);
    merge();
  }

  void merge() {
    std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) { return a.offset < b.offset; });
    std::vector<Row> merged;
    for (Row& row : rows_) {
      if (merged.empty() || merged.back().offset != row.offset) {
        merged.push_back(std::move(row));
        continue;
      }
      std::vector<double>& to = merged.back().mass;
      if (to.size() < row.mass.size()) to.resize(row.mass.size());
      for (size_t r = 0; r < row.mass.size(); ++r) to[r] += row.mass[r];
    }
    rows_ = std::move(merged);
  }

  size_t num_states() const {
    size_t count = 0;
    for (const Row& row : rows_) count += row.mass.size();
    return count;
  }

  const ElasticLaw& law_;
  const UnitTerms& terms_;
  std::vector<int64_t> best_before_;
  std::vector<DiscreteLaw> sums_before_;  // [g]: of all groups before g
  std::vector<Row> rows_;                 // by rising offset
  std::map<int64_t, std::vector<double>> settled_;
  int64_t grid_ = 1, total_grid_ = 0;
};

// M for one k in all layers.
double shared_maximum(const ElasticLaw& law, const RunningMaximumTerms& terms, int64_t k) {
  const auto j = static_cast<size_t>(k - law.k_min());
  double largest = -INFINITY, surplus = 0;
  for (size_t l = 0; l < terms.fixed.size(); ++l) {
    if (!terms.surplus.empty()) surplus += terms.surplus[l][j];
    const double sum = terms.slope * static_cast<double>(k * static_cast<int64_t>(l + 1)) + surplus;
    largest = std::max(largest, terms.fixed[l] + sum + terms.bump[l][j]);
  }
  return largest;
}

}  // namespace

RunningMaximumLaw running_maximum(const ElasticLaw& law, const RunningMaximumTerms& terms) {
  check_shape(law, terms);
  std::vector<std::pair<double, double>> outcomes;
  if (law.one_k_for_all_layers()) {
    for (int64_t k = law.shared_draw().min(); k <= law.shared_draw().max(); ++k) {
      const double p = law.shared_draw().probability(k);
      if (p > 0) outcomes.emplace_back(shared_maximum(law, terms, k), p);
    }
    return {ValueLaw(std::move(outcomes)), 0};
  }
  const UnitTerms units = in_units(law, terms);
  const BackwardPass pass(law, units);
  const double rounding = static_cast<double>(pass.rounding()) * units.unit;
  const double largest = largest_running_maximum(law, terms);
  for (const auto& [offset, probabilities] : pass.settled()) {
    for (size_t sum = 0; sum < probabilities.size(); ++sum) {
      const auto value = static_cast<double>(offset + units.slope * static_cast<int64_t>(sum)) * units.unit;
      // Rounding up may pass the exact largest value, which is known.
      if (probabilities[sum] > 0) outcomes.emplace_back(std::min(value, largest), probabilities[sum]);
    }
  }
  outcomes.emplace_back(largest, 0);
  return {ValueLaw(std::move(outcomes)), rounding};
}

RunningMaximumBySum running_maximum_by_sum(const ElasticLaw& law, const RunningMaximumTerms& terms) {
  check_shape(law, terms);
  MMOE_CHECK(law.groups().size() == 1) << law.groups().size() << " groups";
  const UnitTerms units = in_units(law, terms);
  const BackwardPass pass(law, units);
  RunningMaximumBySum result;
  result.least_sum = int64_t{law.num_layers()} * law.k_min();
  result.slope = static_cast<double>(units.slope) * units.unit;
  result.rounding = static_cast<double>(pass.rounding()) * units.unit;
  for (const auto& [offset, probabilities] : pass.settled()) {
    result.rows.push_back({static_cast<double>(offset) * units.unit, probabilities});
  }
  return result;
}

double largest_running_maximum(const ElasticLaw& law, const RunningMaximumTerms& terms) {
  check_shape(law, terms);
  if (law.one_k_for_all_layers()) {
    double largest = -INFINITY;
    for (int64_t k = law.shared_draw().min(); k <= law.shared_draw().max(); ++k) {
      if (law.shared_draw().probability(k) > 0) largest = std::max(largest, shared_maximum(law, terms, k));
    }
    return largest;
  }
  // From the last layer to the first: after[r] is the largest maximum of the layers from here on, relative to the sum
  // of all layers before them, when the group's layers before them sum to r (of k_l - k_min).
  double after_groups = -INFINITY;
  for (size_t g = law.groups().size(); g-- > 0;) {
    const GroupLaw& group = law.groups()[g];
    const auto num_sums = static_cast<size_t>(group.bound()) + 1;
    std::vector<double> after(num_sums, after_groups);
    // Which sums the layers from here on can still complete.
    std::vector<char> possible(num_sums, group.kind() == SumBound::kAtMost);
    possible.back() = 1;
    for (int left = group.size(); left >= 1; --left) {
      const auto layer = static_cast<size_t>(group.layer(left - 1));
      std::vector<double> next(num_sums, -INFINITY);
      std::vector<char> next_possible(num_sums, 0);
      for (size_t r = 0; r < num_sums; ++r) {
        for (size_t j = 0; j < terms.bump[layer].size() && r + j < num_sums; ++j) {
          if (!possible[r + j]) continue;
          const double here = std::max(terms.fixed[layer] + terms.bump[layer][j], after[r + j]);
          const double kept = terms.slope * static_cast<double>(law.k_min() + static_cast<int>(j)) +
                              (terms.surplus.empty() ? 0 : terms.surplus[layer][j]);
          next[r] = std::max(next[r], here + kept);
          next_possible[r] = 1;
        }
      }
      after = std::move(next);
      possible = std::move(next_possible);
    }
    after_groups = after.front();
  }
  return after_groups;
}

}  // namespace mmoe
