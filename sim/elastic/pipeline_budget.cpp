#include "sim/elastic/pipeline_budget.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "sim/allocation/knapsack.h"
#include "sim/elastic/elastic_law.h"
#include "sim/elastic/window_sampler.h"
#include "sim/units/errors.h"
#include "sim/units/units.h"

namespace mmoe {
namespace {

constexpr double kLeastProbability = 1e-280;
constexpr int kFrontLevels = 12;
constexpr int64_t kWindowDraws = 4000;  // simulated micro-batches for the KL of one window bound

// `law` given that its value is at most, or exactly, `bound`.
DiscreteLaw conditioned(const DiscreteLaw& law, BudgetKind kind, int64_t bound) {
  if (kind == BudgetKind::kExact) return DiscreteLaw::certain(bound);
  if (bound >= law.max()) return law;
  const auto& p = law.probabilities();
  return DiscreteLaw(law.min(), {p.begin(), p.begin() + (bound - law.min()) + 1});
}

double bound_probability(const DiscreteLaw& law, BudgetKind kind, int64_t bound) {
  return kind == BudgetKind::kExact ? law.probability(bound) : bound >= law.max() ? 1 : law.cdf(bound);
}

// What the tuner knows of one rank.
struct Rank {
  int64_t num_layers = 0;
  double least = 0;    // bytes: the peak is never lower
  double windows = 1;  // draws of a step, or sums of them, that count as independent
  struct Moment {
    double base, ranks;
    DrawSum sum;
  };
  std::vector<Moment> moments = {};         // the peak is the highest of base + sum
  const PipelineStage* pipeline = nullptr;  // of one chunk, whose sliding sums a window can bound
};

// A rank's peak under one bound: P(peak > x) of one window, of several sums the sum of their probabilities.
class StagePeak {
 public:
  StagePeak(const Rank& rank, BudgetKind kind, int64_t bound) : windows_(rank.windows) {
    std::vector<std::pair<double, double>> outcomes;
    for (const Rank::Moment& moment : rank.moments) {
      const GridLaw law = moment.sum.law(kind, bound);
      slack_ = std::max(slack_, 1e-9 * law.spacing);
      const auto add = [&](double bytes, double probability) {
        outcomes.emplace_back(std::max(rank.least, moment.base + std::min(bytes, law.largest)), probability);
      };
      for (int64_t cell = law.cells.min(); cell <= law.cells.max(); ++cell) {
        const double probability = moment.ranks * law.cells.probability(cell);
        if (probability > 0) add(law.origin + law.spacing * static_cast<double>(cell), probability);
      }
      add(law.largest, 0);
    }
    if (rank.moments.size() > 1) std::sort(outcomes.begin(), outcomes.end());
    double above = 0;
    values_.resize(outcomes.size());
    tails_.resize(outcomes.size());
    for (size_t i = outcomes.size(); i-- > 0;) {
      values_[i] = outcomes[i].first;
      const bool same = i + 1 < outcomes.size() && values_[i] == values_[i + 1];
      tails_[i] = same ? tails_[i + 1] : above;
      above += outcomes[i].second;
    }
  }
  double bytes(int64_t i) const { return values_[static_cast<size_t>(i)]; }
  double largest() const { return values_.back(); }
  int64_t size() const { return static_cast<int64_t>(values_.size()); }
  // log P(no window of `steps` steps passes x).
  double log_within(double x, double steps) const {
    if (x >= largest()) return 0;
    const auto above = std::upper_bound(values_.begin(), values_.end(), x + slack_);
    if (above == values_.begin()) return -INFINITY;
    return windows_ * steps * std::log1p(-std::min(1.0, tails_[static_cast<size_t>(above - values_.begin()) - 1]));
  }

 private:
  double windows_, slack_ = 0;
  std::vector<double> values_, tails_;  // rising, and P(a value above)
};

struct Option {
  int64_t bound = 0;
  double kl = 0, standard_error = 0;
  double cost = 0;  // -log P(within the limit over the horizon)
  double mean = 0;  // of one micro-batch's sum
};

// Cells of `added`: those of a layer that is in flight.
std::vector<int64_t> cells_of(const PipelineStage& stage, const CostCells& costs) {
  size_t layer = 0;
  for (const PipelineStage::Chunk& chunk : stage.chunks) {
    if (chunk.num_layers > 0 && chunk.in_flight > 0) break;
    layer += static_cast<size_t>(chunk.num_layers);
  }
  return costs.cells.front()[layer];
}

void check(const ElasticConfig& config, const PipelineGoal& goal) {
  MMOE_CHECK(config.granularity == Granularity::kLayer) << "one k for all layers";
  MMOE_CHECK(goal.memory_limit.has_value() != goal.saving.has_value()) << "one goal is wanted";
  MMOE_CHECK(goal.confidence > 0 && goal.confidence < 1) << "confidence " << goal.confidence;
  MMOE_CHECK(goal.steps >= 1 && goal.replicas >= 1 && goal.num_micro_batches >= 1) << goal.steps;
}

class PipelineTuner {
 public:
  PipelineTuner(const ElasticConfig& config, std::vector<Rank> ranks, const PipelineGoal& goal)
      : config_(config), ranks_(std::move(ranks)), goal_(goal) {
    std::map<int64_t, DiscreteLaw> known;
    for (const Rank& rank : ranks_) {
      const auto [found, added] = known.try_emplace(rank.num_layers);
      if (added) found->second = free_sum(config, rank.num_layers);
      laws_.push_back(found->second);
      free_mean_ += laws_.back().mean();
    }
  }

  BudgetTuning tune() {
    Peaks free;
    for (size_t s = 0; s < ranks_.size(); ++s) free.push_back(&peak_of(s, BudgetKind::kAtMost, laws_[s].max()));
    tuning_.free_peak = quantile(free, goal_.steps);
    tuning_.free_mean_peak = mean_peak(free);
    for (const StagePeak* peak : free) tuning_.free_largest_peak = std::max(tuning_.free_largest_peak, peak->largest());
    tuning_.limit = goal_.memory_limit ? *goal_.memory_limit : (1 - *goal_.saving) * tuning_.free_peak;
    tuning_.free_probability_within_limit = std::exp(log_within(free, tuning_.limit, goal_.steps));
    tuning_.budget_needed = tuning_.free_probability_within_limit < goal_.confidence;
    consider(BudgetKind::kAtMost, tuning_.limit, true);
    if (tuning_.budget_needed) {
      consider(BudgetKind::kExact, tuning_.limit, true);
      consider(BudgetKind::kWindow, tuning_.limit, true);
    }
    if (!tuning_.choice) explain();
    const double least = least_peak();
    for (int level = 0; level < kFrontLevels; ++level) {
      const double x = least + (tuning_.free_peak - least) * (level + 0.5) / kFrontLevels;
      for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact, BudgetKind::kWindow}) {
        consider(kind, x, false);
      }
    }
    keep_undominated(tuning_.front);
    return std::move(tuning_);
  }

 private:
  using Peaks = std::vector<const StagePeak*>;

  const StagePeak& peak_of(size_t s, BudgetKind kind, int64_t bound) {
    const auto key = std::tuple(s, kind, bound);
    const auto found = peaks_.find(key);
    return found != peaks_.end() ? found->second : peaks_.emplace(key, StagePeak(ranks_[s], kind, bound)).first->second;
  }

  static double log_within(const Peaks& peaks, double x, double steps) {
    double sum = 0;
    for (const StagePeak* peak : peaks) sum += peak->log_within(x, steps);
    return sum;
  }

  // Least peak that no stage passes with the confidence, among the values that peaks take.
  double quantile(const Peaks& peaks, double steps) const {
    const double least = std::log(goal_.confidence) * (1 + 1e-12);
    double result = INFINITY;
    for (const StagePeak* peak : peaks) {
      int64_t low = 0, high = peak->size() - 1;
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (log_within(peaks, peak->bytes(middle), steps) >= least) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      if (log_within(peaks, peak->bytes(low), steps) >= least) result = std::min(result, peak->bytes(low));
    }
    return result;
  }

  double mean_peak(const Peaks& peaks) const {
    std::vector<double> values;
    for (const StagePeak* peak : peaks) {
      for (int64_t i = 0; i < peak->size(); ++i) values.push_back(peak->bytes(i));
    }
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    double mean = 0, below = 0;
    for (const double x : values) {
      const double now = std::exp(log_within(peaks, x, 1));
      mean += x * (now - below);
      below = now;
    }
    return mean / below;
  }

  double least_peak() const {
    double least = 0;
    for (const Rank& rank : ranks_) least = std::max(least, rank.least);
    return least;
  }

  double kl(size_t s, BudgetKind kind, int64_t bound) const {
    if (kind == BudgetKind::kAtMost && bound >= laws_[s].max()) return 0;
    return std::max(0.0, -std::log(bound_probability(laws_[s], kind, bound)));
  }

  // Bounds of one stage worth a look at the limit x, with a share of the risk between almost all and almost none.
  std::vector<Option> options(size_t s, BudgetKind kind, double x) {
    std::vector<Option> list;
    const DiscreteLaw& all = laws_[s];
    if (kind == BudgetKind::kWindow) {
      if (!ranks_[s].pipeline || x < ranks_[s].least) return {};
      const int64_t width = ranks_[s].pipeline->width();
      int64_t room = 0, most = width * (all.max() - all.min());
      while (room < most) {
        const int64_t middle = most - (most - room) / 2;
        if (window_peak(s, width * all.min() + middle) <= x * (1 + 1e-12)) {
          room = middle;
        } else {
          most = middle - 1;
        }
      }
      Option option{.bound = width * all.min() + room, .kl = 0, .standard_error = 0, .cost = 0, .mean = all.mean()};
      if (option.bound < width * all.max()) {
        const int64_t steps = std::max<int64_t>(8, kWindowDraws / goal_.num_micro_batches);
        const WindowLaw law = window_law(all, option.bound, width, goal_.num_micro_batches, steps);
        option.kl = law.kl_divergence;
        option.standard_error = law.standard_error;
        option.mean = law.mean_sum;
      }
      return {option};
    }
    const double risk = -std::log(goal_.confidence);
    const auto cost = [&](int64_t bound) -> double {
      const bool possible = bound_probability(all, kind, bound) >= kLeastProbability;
      if (!possible) return static_cast<double>(bound) < all.mean() ? 0 : INFINITY;
      return -peak_of(s, kind, bound).log_within(x, goal_.steps);
    };
    int64_t low = all.min() - 1, high = all.max();  // cost(low) <= risk < cost(high + 1)
    while (low < high) {
      const int64_t middle = high - (high - low) / 2;
      if (cost(middle) <= risk) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    // With a hundredth of its even share a stage has nothing left to gain from a tighter bound, but exact bounds gain
    // down to the likeliest sum.
    const double enough = 0.01 * risk / static_cast<double>(ranks_.size());
    double best = INFINITY;
    for (int64_t bound = low; bound >= all.min(); --bound) {
      if (bound_probability(all, kind, bound) < kLeastProbability) continue;
      const Option option{bound, kl(s, kind, bound), 0, std::max(0.0, cost(bound)),
                          conditioned(all, kind, bound).mean()};
      if (option.kl < best || option.cost > enough) list.push_back(option);
      if (option.cost <= enough && option.kl >= best) break;
      best = std::min(best, option.kl);
      if (kind == BudgetKind::kAtMost && option.cost <= enough) break;
    }
    return list;
  }

  // Bytes that no spread of a window's sum passes.
  double window_peak(size_t s, int64_t bound) const {
    const PipelineStage& stage = *ranks_[s].pipeline;
    const int64_t width = stage.width();
    return stage.at_least + most_added(stage.added, width * stage.num_layers(), bound - width * laws_[s].min());
  }

  // The budget of least KL at the limit x, into the front; with `may_choose` also as the choice.
  void consider(BudgetKind kind, double x, bool may_choose) {
    KnapsackProblem problem;
    std::vector<std::vector<Option>> all;
    for (size_t s = 0; s < ranks_.size(); ++s) {
      all.push_back(options(s, kind, x));
      if (all.back().empty()) return;
      auto& loss = problem.loss.emplace_back();
      auto& cost = problem.cost.emplace_back();
      for (const Option& option : all.back()) {
        loss.push_back(option.kl);
        cost.push_back(option.cost);
      }
    }
    const auto solution = solve_knapsack(problem, -std::log(goal_.confidence));
    if (!solution) return;
    TunedBudget tuned;
    tuned.budget.kind = kind;
    double variance = 0, sum_k = 0;
    Peaks peaks;
    double highest_window = -INFINITY;
    for (size_t s = 0; s < ranks_.size(); ++s) {
      const Option& option = all[s][static_cast<size_t>(solution->k_per_layer[s] - problem.k_min)];
      tuned.budget.groups.push_back(ranks_[s].num_layers);
      tuned.budget.sum_k.push_back(option.bound);
      tuned.kl_divergence += option.kl;
      variance += option.standard_error * option.standard_error;
      sum_k += option.mean;
      if (kind == BudgetKind::kWindow) {
        highest_window = std::max(highest_window, window_peak(s, option.bound));
      } else {
        peaks.push_back(&peak_of(s, kind, option.bound));
      }
    }
    tuned.kl_standard_error = std::sqrt(variance);
    tuned.expected_sum_fraction = sum_k / free_mean_;
    if (kind == BudgetKind::kWindow) {
      tuned.peak = highest_window;
      tuned.probability_within_limit = highest_window <= tuning_.limit * (1 + 1e-12) ? 1 : 0;
    } else {
      tuned.peak = quantile(peaks, goal_.steps);
      tuned.probability_within_limit = std::exp(log_within(peaks, tuning_.limit, goal_.steps));
    }
    tuned.saving = {1 - tuned.peak / tuning_.free_peak, 1 - tuned.peak / tuning_.free_mean_peak,
                    1 - tuned.peak / tuning_.free_largest_peak};
    const auto rank = [](const TunedBudget& b) { return std::pair(b.kl_divergence, -b.expected_sum_fraction); };
    if (may_choose && (!tuning_.choice || rank(tuned) < rank(*tuning_.choice))) tuning_.choice = tuned;
    tuning_.front.push_back(std::move(tuned));
  }

  void explain() {
    const std::string limit = to_string(Bytes{tuning_.limit});
    if (least_peak() > tuning_.limit) {
      tuning_.reason = "even k = " + std::to_string(config_.k_min) + " in every MoE layer peaks at " +
                       to_string(Bytes{least_peak()}) + ", above the limit of " + limit +
                       "; save the rest by smaller micro-batches, recomputation or more devices";
    } else {
      tuning_.reason = "only bounds that practically never hold without a budget would keep the limit of " + limit +
                       "; lower elastic.k_max instead";
    }
  }

  const ElasticConfig& config_;
  std::vector<Rank> ranks_;
  const PipelineGoal& goal_;
  std::vector<DiscreteLaw> laws_;  // of one micro-batch's sum of k_l, without a budget
  std::map<std::tuple<size_t, BudgetKind, int64_t>, StagePeak> peaks_;
  double free_mean_ = 0;
  BudgetTuning tuning_;
};

}  // namespace

int64_t PipelineStage::num_layers() const {
  int64_t layers = 0;
  for (const Chunk& chunk : chunks) layers += chunk.num_layers;
  return layers;
}

int64_t PipelineStage::width() const {
  int64_t width = 1;
  for (const Chunk& chunk : chunks) width = std::max(width, chunk.in_flight);
  return width;
}

int64_t PipelineStage::windows(int64_t num_micro_batches) const {
  int64_t held = 0;
  for (const Chunk& chunk : chunks) held += chunk.in_flight;
  return std::max<int64_t>(1, num_micro_batches * static_cast<int64_t>(chunks.size()) - held + 1);
}

std::vector<DrawCosts> PipelineStage::in_flight() const {
  std::vector<DrawCosts> parts;
  int64_t first = 0;  // layer of the chunk
  for (const Chunk& chunk : chunks) {
    if (chunk.num_layers > 0 && chunk.in_flight > 0) {
      const auto add = [&](const std::vector<double>& costs, int64_t count) {
        DrawCosts part{LayerCosts(static_cast<size_t>(num_layers()), std::vector<double>(added.size(), 0)), count};
        std::fill_n(part.costs.begin() + first, chunk.num_layers, costs);
        parts.push_back(std::move(part));
      };
      std::vector<double> own = added;
      for (size_t j = 0; j < from_other.size(); ++j) own[j] -= static_cast<double>(others) * from_other[j];
      add(own, chunk.in_flight);
      if (others > 0) add(from_other, chunk.in_flight * others);
    }
    first += chunk.num_layers;
  }
  return parts;
}

std::optional<TailProbability> passing_probability(const ElasticConfig& config,
                                                   const std::vector<PipelineStage>& stages,
                                                   const std::vector<std::span<const Pass>>& orders,
                                                   const PipelineGoal& goal, const Budget& budget, double limit,
                                                   int64_t num_samples) {
  MMOE_CHECK(budget.kind != BudgetKind::kWindow && budget.sum_k.size() == stages.size()) << budget.sum_k.size();
  MMOE_CHECK(orders.size() == stages.size()) << orders.size() << " orders";
  double log_within = 0, variance = 0;
  for (size_t s = 0; s < stages.size(); ++s) {
    const PipelineStage& stage = stages[s];
    if (limit < stage.at_least) return TailProbability{1, 0};
    if (stage.added.back() == 0) continue;
    std::vector<ChunkLaw> chunks;
    int64_t bound = 0;
    double origin = 0, unit = 1;
    if (stage.chunks.size() == 1) {  // its bound is on what it keeps alone
      PipelineStage one = stage;
      one.chunks.front().in_flight = 1;
      const GridLaw law = DrawSum(config, one.in_flight(), kMostCells).law(budget.kind, budget.sum_k[s]);
      origin = law.origin * static_cast<double>(stage.width());
      unit = law.spacing;
      auto& outcomes = chunks.emplace_back();
      for (int64_t cells = law.cells.min(); cells <= law.cells.max(); ++cells) {
        if (law.cells.probability(cells) > 0) outcomes.push_back({0, cells, law.cells.probability(cells)});
      }
    } else {
      if (stage.others > 0) return std::nullopt;
      const CostCells costs = in_cells(stage.in_flight(), kMostCells);
      origin = costs.origin;
      unit = costs.unit;
      const std::vector<int64_t> cells = cells_of(stage, costs);
      for (const PipelineStage::Chunk& chunk : stage.chunks)
        chunks.push_back(chunk_law(config, chunk.num_layers, cells));
      const int64_t most = stage.num_layers() * (config.k_max - config.k_min);
      bound = std::min(most, budget.sum_k[s] - stage.num_layers() * config.k_min);
    }
    const double room = std::min(std::floor((limit - stage.at_least - origin) / unit + 1e-9), 1e15);
    const std::optional<TailProbability> tail =
        in_flight_maximum_tail(chunks, budget.kind, bound, orders[s], static_cast<int64_t>(room), num_samples, s);
    if (!tail) return std::nullopt;
    log_within += std::log1p(-tail->value);
    variance += tail->standard_error * tail->standard_error;
  }
  const double steps = goal.steps * goal.replicas;
  return TailProbability{-std::expm1(steps * log_within), steps * std::exp(steps * log_within) * std::sqrt(variance)};
}

BudgetTuning tune_group_budget(const ElasticConfig& config, const GroupMemory& group, const PipelineGoal& goal) {
  check(config, goal);
  Rank rank{.num_layers = group.num_layers, .least = group.least};
  rank.windows = static_cast<double>(goal.num_micro_batches) * goal.replicas;
  for (const DrawnPeak& peak : group.peaks) {
    rank.moments.push_back({peak.base, peak.ranks, DrawSum(config, peak.draws, kMostCells)});
  }
  return PipelineTuner(config, {std::move(rank)}, goal).tune();
}

BudgetTuning tune_pipeline_budget(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                  const PipelineGoal& goal) {
  check(config, goal);
  MMOE_CHECK(!stages.empty()) << "no stages";
  std::vector<Rank> ranks;
  // A window of one micro-batch is its at_most bound.
  const bool has_windows =
      std::all_of(stages.begin(), stages.end(), [](const auto& s) { return s.chunks.size() == 1; }) &&
      std::any_of(stages.begin(), stages.end(), [](const auto& s) { return s.width() > 1; });
  for (const PipelineStage& stage : stages) {
    MMOE_CHECK(stage.others == 0 || stage.from_other.size() == stage.added.size()) << stage.from_other.size();
    MMOE_CHECK(stage.num_layers() >= 1 && std::is_sorted(stage.added.begin(), stage.added.end()) &&
               stage.added.front() == 0)
        << stage.num_layers() << " layers";
    Rank rank{.num_layers = stage.num_layers(), .least = stage.at_least};
    rank.windows = static_cast<double>(stage.windows(goal.num_micro_batches)) * goal.replicas;
    rank.moments.push_back({stage.at_least, 1, DrawSum(config, stage.in_flight(), kMostCells)});
    if (has_windows) rank.pipeline = &stage;
    ranks.push_back(std::move(rank));
  }
  return PipelineTuner(config, std::move(ranks), goal).tune();
}

}  // namespace mmoe
