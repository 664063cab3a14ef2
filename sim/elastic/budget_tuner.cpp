#include "sim/elastic/budget_tuner.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "sim/allocation/knapsack.h"
#include "sim/units/errors.h"
#include "sim/units/units.h"

namespace mmoe {
namespace {

constexpr double kLeastProbability = 1e-280;
constexpr int64_t kFrontBounds = 256;

// Stages whose draws are one: a stage alone (granularity `layer`), or all stages (one k for all layers). `sum` counts
// what a bound acts on: the stage's sum of k_l - k_min, or k - k_min.
struct Unit {
  struct Outcome {
    double peak;
    size_t sum;
    double probability;
  };
  std::vector<Outcome> outcomes;        // of one draw without a budget and one device, by rising peak; devices together
  std::vector<double> sum_probability;  // [sum]
  double mean_sum_k = 0;                // without a budget, over all its layers
  double largest_peak = 0;
  std::vector<int64_t> layers;  // of each stage
};

struct Bound {
  SumBound kind;
  size_t sum;
};

bool allows(Bound bound, size_t sum) { return bound.kind == SumBound::kExact ? sum == bound.sum : sum <= bound.sum; }

ElasticConfig without_budget(const ElasticConfig& config) {
  ElasticConfig free = config;
  free.budget.reset();
  return free;
}

Unit stage_unit(const ElasticConfig& config, const StageMemory& stage) {
  const ElasticLaw law(without_budget(config), static_cast<int>(stage.num_layers()));
  Unit unit;
  unit.layers = {stage.num_layers()};
  unit.largest_peak = stage.least;
  unit.sum_probability.resize(static_cast<size_t>(stage.num_layers() * (config.k_max - config.k_min)) + 1);
  const auto add = [&](const RunningMaximumTerms& terms, bool first) {
    unit.largest_peak = std::max(unit.largest_peak, stage.constant + largest_running_maximum(law, terms));
    const RunningMaximumBySum joint = running_maximum_by_sum(law, terms);
    for (const auto& row : joint.rows) {
      for (size_t sum = 0; sum < row.probability.size(); ++sum) {
        if (row.probability[sum] == 0) continue;
        const double peak = stage.constant + row.offset + joint.slope * static_cast<double>(sum);
        unit.outcomes.push_back({std::max(stage.least, peak), sum, row.probability[sum]});
        if (first) unit.sum_probability[sum] += row.probability[sum];
      }
    }
  };
  add(stage.terms, true);
  for (const RunningMaximumTerms& terms : stage.others) add(terms, false);
  unit.mean_sum_k = law.sum().mean();
  return unit;
}

Unit shared_unit(const ElasticConfig& config, const std::vector<StageMemory>& stages) {
  Unit unit;
  int64_t num_layers = 0;
  for (const StageMemory& stage : stages) {
    unit.layers.push_back(stage.num_layers());
    num_layers += stage.num_layers();
  }
  const DiscreteLaw draw = ElasticLaw(without_budget(config), 1).free_draw();
  unit.largest_peak = -INFINITY;
  for (int k = config.k_min; k <= config.k_max; ++k) {
    ElasticConfig one = without_budget(config);
    one.k_min = one.k_max = k;
    double peak = -INFINITY;
    for (const StageMemory& stage : stages) {
      RunningMaximumTerms terms = stage.terms;
      for (auto& bump : terms.bump) bump = {bump[static_cast<size_t>(k - config.k_min)]};
      const ElasticLaw law(one, static_cast<int>(stage.num_layers()));
      peak = std::max({peak, stage.least, stage.constant + largest_running_maximum(law, terms)});
    }
    unit.outcomes.push_back({peak, static_cast<size_t>(k - config.k_min), draw.probability(k)});
    unit.sum_probability.push_back(draw.probability(k));
    unit.largest_peak = std::max(unit.largest_peak, peak);
  }
  unit.mean_sum_k = static_cast<double>(num_layers) * draw.mean();
  return unit;
}

double bound_probability(const Unit& unit, Bound bound) {
  double sum = 0;
  for (size_t s = 0; s < unit.sum_probability.size(); ++s) sum += allows(bound, s) ? unit.sum_probability[s] : 0;
  return sum;
}

size_t loosest(const Unit& unit) { return unit.sum_probability.size() - 1; }

double kl_divergence(const Unit& unit, Bound bound) {
  if (bound.kind == SumBound::kAtMost && bound.sum == loosest(unit)) return 0;
  return std::max(0.0, -std::log(bound_probability(unit, bound)));
}

// log P(peak <= x) of one draw under each bound, for bounds 0, 1, ...; minus infinity where it cannot be.
std::vector<double> log_within(const Unit& unit, SumBound kind, double x) {
  std::vector<double> above(unit.sum_probability.size());
  for (const Unit::Outcome& outcome : unit.outcomes) {
    if (outcome.peak > x) above[outcome.sum] += outcome.probability;
  }
  std::vector<double> result;
  double all = 0, over = 0;
  for (size_t s = 0; s < above.size(); ++s) {
    if (kind == SumBound::kExact) all = over = 0;
    all += unit.sum_probability[s];
    over += above[s];
    result.push_back(all > 0 && over < all ? std::log1p(-over / all) : -INFINITY);
  }
  return result;
}

// Peaks of one draw under a bound, from the largest down, with P(a peak of this or more).
class BoundedPeaks {
 public:
  BoundedPeaks(const Unit& unit, Bound bound) {
    const double all = bound_probability(unit, bound);
    double tail = 0;
    for (size_t i = unit.outcomes.size(); i-- > 0;) {
      const Unit::Outcome& outcome = unit.outcomes[i];
      if (!allows(bound, outcome.sum)) continue;
      tail += outcome.probability / all;
      if (!peaks_.empty() && peaks_.back() == outcome.peak) {
        tails_.back() = tail;
      } else {
        peaks_.push_back(outcome.peak);
        tails_.push_back(tail);
      }
    }
  }
  const std::vector<double>& peaks() const { return peaks_; }
  // log P(peak <= x).
  double log_cdf(double x) const {
    const auto below = std::partition_point(peaks_.begin(), peaks_.end(), [&](double peak) { return peak > x; });
    if (below == peaks_.begin()) return 0;
    if (below == peaks_.end()) return -INFINITY;
    return std::log1p(-std::min(1.0, tails_[static_cast<size_t>(below - peaks_.begin()) - 1]));
  }

 private:
  std::vector<double> peaks_, tails_;
};

// Every peak that some unit can have, rising.
std::vector<double> all_peaks(const std::vector<BoundedPeaks>& units) {
  std::vector<double> peaks;
  for (const BoundedPeaks& unit : units) peaks.insert(peaks.end(), unit.peaks().begin(), unit.peaks().end());
  std::sort(peaks.begin(), peaks.end());
  peaks.erase(std::unique(peaks.begin(), peaks.end()), peaks.end());
  return peaks;
}

double log_cdf(const std::vector<BoundedPeaks>& units, double x) {
  double sum = 0;
  for (const BoundedPeaks& unit : units) sum += unit.log_cdf(x);
  return sum;
}

// Least x that no unit passes in `draws` draws with probability q.
double peak_quantile(const std::vector<BoundedPeaks>& units, double q, double draws) {
  const std::vector<double> peaks = all_peaks(units);
  const double least = std::log(q) * (1 + 1e-12);
  const auto found =
      std::partition_point(peaks.begin(), peaks.end(), [&](double x) { return draws * log_cdf(units, x) < least; });
  return found == peaks.end() ? peaks.back() : *found;
}

double mean_peak(const std::vector<BoundedPeaks>& units, double draws) {
  double mean = 0, below = 0;
  for (const double x : all_peaks(units)) {
    const double now = std::exp(draws * log_cdf(units, x));
    mean += x * (now - below);
    below = now;
  }
  return mean / below;
}

class Tuner {
 public:
  Tuner(const ElasticConfig& config, const std::vector<StageMemory>& stages, const BudgetGoal& goal)
      : config_(config), goal_(goal) {
    if (config.granularity == Granularity::kLayer) {
      for (const StageMemory& stage : stages) units_.push_back(stage_unit(config, stage));
    } else {
      units_.push_back(shared_unit(config, stages));
    }
    for (Unit& unit : units_) {
      std::sort(unit.outcomes.begin(), unit.outcomes.end(),
                [](const Unit::Outcome& a, const Unit::Outcome& b) { return a.peak < b.peak; });
      free_sum_ += unit.mean_sum_k;
    }
  }

  BudgetTuning tune() {
    const std::vector<Bound> free = free_bounds();
    const std::vector<BoundedPeaks> peaks = bounded(free);
    tuning_.free_peak = peak_quantile(peaks, goal_.confidence, goal_.horizon_draws);
    tuning_.free_mean_peak = mean_peak(peaks, goal_.step_draws);
    tuning_.free_largest_peak = -INFINITY;
    for (const Unit& unit : units_) tuning_.free_largest_peak = std::max(tuning_.free_largest_peak, unit.largest_peak);
    tuning_.limit = goal_.memory_limit ? *goal_.memory_limit : (1 - *goal_.saving) * tuning_.free_peak;
    tuning_.free_probability_within_limit = std::exp(goal_.horizon_draws * log_cdf(peaks, tuning_.limit));
    tuning_.budget_needed = tuning_.free_probability_within_limit < goal_.confidence;
    if (tuning_.budget_needed) {
      choose(SumBound::kAtMost);
      choose(SumBound::kExact);
      if (!tuning_.choice) explain();
    } else {
      tuning_.choice = tuned(free);
    }
    build_front(SumBound::kAtMost);
    build_front(SumBound::kExact);
    keep_undominated(tuning_.front);
    return std::move(tuning_);
  }

 private:
  std::vector<Bound> free_bounds() const {
    std::vector<Bound> bounds;
    for (const Unit& unit : units_) bounds.push_back({SumBound::kAtMost, loosest(unit)});
    return bounds;
  }

  std::vector<BoundedPeaks> bounded(const std::vector<Bound>& bounds) const {
    std::vector<BoundedPeaks> peaks;
    for (size_t u = 0; u < units_.size(); ++u) peaks.emplace_back(units_[u], bounds[u]);
    return peaks;
  }

  TunedBudget tuned(const std::vector<Bound>& bounds) const {
    TunedBudget result;
    double sum_k = 0;
    result.budget.kind = bounds.front().kind == SumBound::kExact ? BudgetKind::kExact : BudgetKind::kAtMost;
    const bool shared = config_.granularity != Granularity::kLayer;
    for (size_t u = 0; u < units_.size(); ++u) {
      for (const int64_t layers : units_[u].layers) {
        const auto sum = static_cast<int64_t>(bounds[u].sum);
        result.budget.groups.push_back(layers);
        result.budget.sum_k.push_back(layers * config_.k_min + (shared ? layers * sum : sum));
      }
      result.kl_divergence += kl_divergence(units_[u], bounds[u]);
      sum_k += expected_sum_k(units_[u], bounds[u]);
    }
    result.expected_sum_fraction = sum_k / free_sum_;
    const std::vector<BoundedPeaks> peaks = bounded(bounds);
    result.peak = peak_quantile(peaks, goal_.confidence, goal_.horizon_draws);
    result.probability_within_limit = std::exp(goal_.horizon_draws * log_cdf(peaks, tuning_.limit));
    result.saving = {1 - result.peak / tuning_.free_peak, 1 - result.peak / tuning_.free_mean_peak,
                     1 - result.peak / tuning_.free_largest_peak};
    return result;
  }

  double expected_sum_k(const Unit& unit, Bound bound) const {
    double sum = 0, probability = 0, num_layers = 0;
    for (size_t s = 0; s < unit.sum_probability.size(); ++s) {
      if (!allows(bound, s)) continue;
      probability += unit.sum_probability[s];
      sum += unit.sum_probability[s] * static_cast<double>(s);
    }
    for (const int64_t layers : unit.layers) num_layers += static_cast<double>(layers);
    const double layers_counted_by_sum = config_.granularity == Granularity::kLayer ? 1 : num_layers;
    return num_layers * config_.k_min + layers_counted_by_sum * sum / probability;
  }

  // Least KL with P(within the limit over the horizon) >= confidence: choices are the bounds, their loss is the KL and
  // their cost -draws * log P(within), which add over units.
  void choose(SumBound kind) {
    KnapsackProblem problem;
    std::vector<std::vector<Bound>> choices;
    for (const Unit& unit : units_) {
      auto& bounds = choices.emplace_back();
      auto& loss = problem.loss.emplace_back();
      auto& cost = problem.cost.emplace_back();
      const std::vector<double> within = log_within(unit, kind, tuning_.limit);
      double all = 0;
      for (size_t sum = 0; sum < within.size(); ++sum) {
        all = (kind == SumBound::kExact ? 0 : all) + unit.sum_probability[sum];
        if (all < kLeastProbability || within[sum] == -INFINITY) continue;
        bounds.push_back({kind, sum});
        loss.push_back(kind == SumBound::kAtMost && sum == loosest(unit) ? 0 : std::max(0.0, -std::log(all)));
        cost.push_back(std::max(0.0, -goal_.horizon_draws * within[sum]));
        // A cost far past what the confidence allows would only blur the solver's tolerance.
        if (cost.back() > 2 * -std::log(goal_.confidence)) {
          bounds.pop_back();
          loss.pop_back();
          cost.pop_back();
        }
      }
      if (bounds.empty()) return;
    }
    const auto solution = solve_knapsack(problem, -std::log(goal_.confidence));
    if (!solution) return;
    std::vector<Bound> bounds;
    for (size_t u = 0; u < units_.size(); ++u) {
      bounds.push_back(choices[u][static_cast<size_t>(solution->k_per_layer[u] - problem.k_min)]);
    }
    TunedBudget budget = tuned(bounds);
    const auto rank = [](const TunedBudget& b) { return std::pair(b.kl_divergence, -b.expected_sum_fraction); };
    tuning_.front.push_back(budget);
    if (!tuning_.choice || rank(budget) < rank(*tuning_.choice)) tuning_.choice = std::move(budget);
  }

  void explain() {
    std::vector<Bound> bounds(units_.size(), {SumBound::kAtMost, 0});
    const double least = peak_quantile(bounded(bounds), goal_.confidence, goal_.horizon_draws);
    const std::string limit = to_string(Bytes{tuning_.limit});
    if (least > tuning_.limit) {
      tuning_.reason = "even k = " + std::to_string(config_.k_min) + " in every MoE layer peaks at " +
                       to_string(Bytes{least}) + ", above the limit of " + limit +
                       "; save the rest by smaller micro-batches, recomputation or more devices";
    } else {
      tuning_.reason = "only bounds that practically never hold without a budget would keep the limit of " + limit +
                       "; lower elastic.k_max instead";
    }
  }

  // One budget for each level x of peak memory: in every unit the bound of least KL whose own peak, at
  // confidence^(1/units) over the horizon, is at most x.
  void build_front(SumBound kind) {
    const double confidence = std::pow(goal_.confidence, 1 / static_cast<double>(units_.size()));
    struct Option {
      Bound bound;
      double peak, kl;
    };
    std::vector<std::vector<Option>> options;
    std::vector<double> levels;
    for (const Unit& unit : units_) {
      auto& list = options.emplace_back();
      const auto last = static_cast<int64_t>(loosest(unit));
      const int64_t stride = last / kFrontBounds + 1;
      for (int64_t sum = last; sum >= 0; sum -= stride) {
        const Bound bound{kind, static_cast<size_t>(sum)};
        if (bound_probability(unit, bound) < kLeastProbability) continue;
        const double peak = peak_quantile({BoundedPeaks(unit, bound)}, confidence, goal_.horizon_draws);
        list.push_back({bound, peak, kl_divergence(unit, bound)});
        levels.push_back(peak);
      }
    }
    std::sort(levels.begin(), levels.end());
    levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
    std::vector<std::vector<size_t>> seen;
    for (const double level : levels) {
      std::vector<Bound> bounds;
      std::vector<size_t> sums;
      for (const auto& list : options) {
        const Option* best = nullptr;
        for (const Option& option : list) {
          if (option.peak <= level && (!best || option.kl < best->kl)) best = &option;
        }
        if (!best) break;
        bounds.push_back(best->bound);
        sums.push_back(best->bound.sum);
      }
      if (bounds.size() != units_.size() || (!seen.empty() && seen.back() == sums)) continue;
      seen.push_back(std::move(sums));
      tuning_.front.push_back(tuned(bounds));
    }
  }

  const ElasticConfig& config_;
  const BudgetGoal& goal_;
  std::vector<Unit> units_;
  double free_sum_ = 0;
  BudgetTuning tuning_;
};

}  // namespace

void keep_undominated(std::vector<TunedBudget>& budgets) {
  std::sort(budgets.begin(), budgets.end(), [](const TunedBudget& a, const TunedBudget& b) {
    return std::tuple(a.peak, a.kl_divergence, -a.expected_sum_fraction) <
           std::tuple(b.peak, b.kl_divergence, -b.expected_sum_fraction);
  });
  std::vector<TunedBudget> kept;
  for (TunedBudget& budget : budgets) {
    const bool beaten = std::any_of(kept.begin(), kept.end(), [&](const TunedBudget& other) {
      return other.kl_divergence <= budget.kl_divergence &&
             other.expected_sum_fraction >= budget.expected_sum_fraction;  // its peak is no higher: sorted
    });
    if (!beaten) kept.push_back(std::move(budget));
  }
  budgets = std::move(kept);
}

BudgetTuning tune_budget(const ElasticConfig& config, const std::vector<StageMemory>& stages, const BudgetGoal& goal) {
  MMOE_CHECK(!stages.empty()) << "no stages";
  MMOE_CHECK(goal.memory_limit.has_value() != goal.saving.has_value()) << "one goal is wanted";
  MMOE_CHECK(goal.confidence > 0 && goal.confidence < 1) << "confidence " << goal.confidence;
  MMOE_CHECK(goal.horizon_draws >= 1 && goal.step_draws >= 1) << goal.horizon_draws << ", " << goal.step_draws;
  return Tuner(config, stages, goal).tune();
}

}  // namespace mmoe
