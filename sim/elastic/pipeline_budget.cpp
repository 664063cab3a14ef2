#include "sim/elastic/pipeline_budget.h"

#include <algorithm>
#include <cmath>
#include <map>
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

// The stage's free laws; sums under every bound follow from them.
struct StageLaws {
  DiscreteLaw all;                          // of one micro-batch, all layers
  std::vector<DiscreteLaw> chunks, others;  // of each chunk's layers, and of the stage's remaining ones
};

StageLaws stage_laws(const ElasticConfig& config, const PipelineStage& stage, std::map<int64_t, DiscreteLaw>& known) {
  const auto sum_of = [&](int64_t layers) {
    const auto [found, added] = known.try_emplace(layers);
    if (added) found->second = free_sum(config, layers);
    return found->second;
  };
  StageLaws laws{sum_of(stage.num_layers()), {}, {}};
  for (const PipelineStage::Chunk& chunk : stage.chunks) {
    laws.chunks.push_back(sum_of(chunk.num_layers));
    laws.others.push_back(sum_of(stage.num_layers() - chunk.num_layers));
  }
  return laws;
}

DiscreteLaw in_flight(const StageLaws& laws, const PipelineStage& stage, BudgetKind kind, int64_t bound) {
  DiscreteLaw sum = DiscreteLaw::certain(0);
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    if (stage.chunks[c].num_layers == 0 || stage.chunks[c].in_flight == 0) continue;
    DiscreteLaw one = laws.all;
    if (stage.chunks.size() == 1) {
      one = conditioned(laws.all, kind, bound);
    } else if (kind == BudgetKind::kExact || bound < laws.all.max()) {
      const DiscreteLaw& chunk = laws.chunks[c];
      std::vector<double> weights;
      for (int64_t v = chunk.min(); v <= chunk.max(); ++v) {
        weights.push_back(chunk.probability(v) * bound_probability(laws.others[c], kind, bound - v));
      }
      one = DiscreteLaw(chunk.min(), std::move(weights));
    } else {
      one = laws.chunks[c];
    }
    sum = sum.convolve(one.sum_of(stage.chunks[c].in_flight));
  }
  return sum;
}

// A stage's peak under one bound: P(peak > x) of one window.
class StagePeak {
 public:
  // Peaks are counted from the sum that k_min gives, whatever the law's own least.
  StagePeak(const PipelineStage& stage, int k_min, const DiscreteLaw& sum, double windows)
      : at_least_(stage.at_least), slope_(stage.slope), windows_(windows), tails_(sum.probabilities().size()) {
    offset_ = sum.min();
    for (const PipelineStage::Chunk& chunk : stage.chunks) offset_ -= k_min * chunk.in_flight * chunk.num_layers;
    double above = 0;
    for (size_t i = tails_.size(); i-- > 0;) {
      tails_[i] = above;
      above += sum.probabilities()[i];
      if (sum.probabilities()[i] > 0 && largest_ < 0) largest_ = static_cast<int64_t>(i);
    }
  }
  double bytes(int64_t i) const { return at_least_ + slope_ * static_cast<double>(offset_ + i); }
  double largest() const { return bytes(largest_); }
  int64_t size() const { return static_cast<int64_t>(tails_.size()); }
  // log P(no window of `steps` steps passes x).
  double log_within(double x, double steps) const {
    if (x >= largest()) return 0;
    if (x < bytes(0)) return -INFINITY;
    const double cell = (x - at_least_) / slope_ - static_cast<double>(offset_);
    const auto i = std::clamp<int64_t>(static_cast<int64_t>(std::floor(cell + 1e-9)), 0, size() - 1);
    return windows_ * steps * std::log1p(-std::min(1.0, tails_[static_cast<size_t>(i)]));
  }

 private:
  double at_least_, slope_, windows_;
  int64_t offset_ = 0, largest_ = -1;
  std::vector<double> tails_;
};

struct Option {
  int64_t bound = 0;
  double kl = 0, standard_error = 0;
  double cost = 0;  // -log P(within the limit over the horizon)
  double mean = 0;  // of one micro-batch's sum
};

class PipelineTuner {
 public:
  PipelineTuner(const ElasticConfig& config, const std::vector<PipelineStage>& stages, const PipelineGoal& goal)
      : config_(config), stages_(stages), goal_(goal) {
    std::map<int64_t, DiscreteLaw> known;
    for (const PipelineStage& stage : stages_) {
      laws_.push_back(stage_laws(config, stage, known));
      one_chunk_each_ = one_chunk_each_ && stage.chunks.size() == 1;
      free_mean_ += laws_.back().all.mean();
    }
  }

  BudgetTuning tune() {
    std::vector<StagePeak> free;
    for (size_t s = 0; s < stages_.size(); ++s) free.push_back(peak_of(s, BudgetKind::kAtMost, laws_[s].all.max()));
    tuning_.free_peak = quantile(free, goal_.steps);
    tuning_.free_mean_peak = mean_peak(free);
    for (const StagePeak& peak : free) tuning_.free_largest_peak = std::max(tuning_.free_largest_peak, peak.largest());
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
  double windows(size_t s) const {
    return static_cast<double>(std::max<int64_t>(1, goal_.num_micro_batches - stages_[s].width() + 1)) * goal_.replicas;
  }

  StagePeak peak_of(size_t s, BudgetKind kind, int64_t bound) const {
    return StagePeak(stages_[s], config_.k_min, in_flight(laws_[s], stages_[s], kind, bound), windows(s));
  }

  static double log_within(const std::vector<StagePeak>& peaks, double x, double steps) {
    double sum = 0;
    for (const StagePeak& peak : peaks) sum += peak.log_within(x, steps);
    return sum;
  }

  // Least peak that no stage passes with the confidence, among the values that peaks take.
  double quantile(const std::vector<StagePeak>& peaks, double steps) const {
    const double least = std::log(goal_.confidence) * (1 + 1e-12);
    double result = INFINITY;
    for (const StagePeak& peak : peaks) {
      int64_t low = 0, high = peak.size() - 1;
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (log_within(peaks, peak.bytes(middle), steps) >= least) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      if (log_within(peaks, peak.bytes(low), steps) >= least) result = std::min(result, peak.bytes(low));
    }
    return result;
  }

  double mean_peak(const std::vector<StagePeak>& peaks) const {
    std::vector<double> values;
    for (const StagePeak& peak : peaks) {
      for (int64_t i = 0; i < peak.size(); ++i) values.push_back(peak.bytes(i));
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
    for (const PipelineStage& stage : stages_) least = std::max(least, stage.at_least);
    return least;
  }

  double kl(size_t s, BudgetKind kind, int64_t bound) const {
    if (kind == BudgetKind::kAtMost && bound >= laws_[s].all.max()) return 0;
    return std::max(0.0, -std::log(bound_probability(laws_[s].all, kind, bound)));
  }

  // Bounds of one stage worth a look at the limit x, with a share of the risk between almost all and almost none.
  std::vector<Option> options(size_t s, BudgetKind kind, double x) const {
    std::vector<Option> list;
    const DiscreteLaw& all = laws_[s].all;
    if (kind == BudgetKind::kWindow) {
      if (!one_chunk_each_) return {};
      const PipelineStage& stage = stages_[s];
      const int64_t width = stage.chunks.front().in_flight;
      const double above = stage.slope > 0 ? std::floor((x - stage.at_least) / stage.slope + 1e-9) : INFINITY;
      if (x < stage.at_least) return {};
      const auto room = static_cast<int64_t>(std::min(above, static_cast<double>(width * (all.max() - all.min()))));
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
    const auto cost = [&](int64_t bound) { return -peak_of(s, kind, bound).log_within(x, goal_.steps); };
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
    const double enough = 0.01 * risk / static_cast<double>(stages_.size());
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

  // The budget of least KL at the limit x, into the front; with `may_choose` also as the choice.
  void consider(BudgetKind kind, double x, bool may_choose) {
    KnapsackProblem problem;
    std::vector<std::vector<Option>> all;
    for (size_t s = 0; s < stages_.size(); ++s) {
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
    std::vector<StagePeak> peaks;
    double window_peak = -INFINITY;
    for (size_t s = 0; s < stages_.size(); ++s) {
      const Option& option = all[s][static_cast<size_t>(solution->k_per_layer[s] - problem.k_min)];
      const PipelineStage& stage = stages_[s];
      tuned.budget.groups.push_back(stage.num_layers());
      tuned.budget.sum_k.push_back(option.bound);
      tuned.kl_divergence += option.kl;
      variance += option.standard_error * option.standard_error;
      sum_k += option.mean;
      if (kind == BudgetKind::kWindow) {
        const int64_t least = stage.chunks.front().in_flight * laws_[s].all.min();
        window_peak = std::max(window_peak, stage.at_least + stage.slope * static_cast<double>(option.bound - least));
      } else {
        peaks.push_back(peak_of(s, kind, option.bound));
      }
    }
    tuned.kl_standard_error = std::sqrt(variance);
    tuned.expected_sum_fraction = sum_k / free_mean_;
    if (kind == BudgetKind::kWindow) {
      tuned.peak = window_peak;
      tuned.probability_within_limit = window_peak <= tuning_.limit ? 1 : 0;
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
  const std::vector<PipelineStage>& stages_;
  const PipelineGoal& goal_;
  std::vector<StageLaws> laws_;
  bool one_chunk_each_ = true;
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

DiscreteLaw in_flight_sum(const ElasticConfig& config, const PipelineStage& stage, BudgetKind kind, int64_t bound) {
  MMOE_CHECK(kind != BudgetKind::kWindow) << "a window is no bound on one micro-batch";
  std::map<int64_t, DiscreteLaw> known;
  return in_flight(stage_laws(config, stage, known), stage, kind, bound);
}

TailProbability passing_probability(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                    const PipelineGoal& goal, const Budget& budget, double limit, int64_t num_samples) {
  MMOE_CHECK(budget.kind != BudgetKind::kWindow && budget.sum_k.size() == stages.size()) << budget.sum_k.size();
  double log_within = 0, variance = 0;
  for (size_t s = 0; s < stages.size(); ++s) {
    const PipelineStage& stage = stages[s];
    MMOE_CHECK(stage.chunks.size() == 1) << stage.chunks.size() << " chunks";
    if (limit < stage.at_least) return {1, 0};
    if (stage.slope == 0) continue;
    const int64_t width = stage.width();
    const DiscreteLaw one = conditioned(free_sum(config, stage.num_layers()), budget.kind, budget.sum_k[s]);
    const double room = std::min(std::floor((limit - stage.at_least) / stage.slope + 1e-9), 1e15);
    const int64_t bound = width * stage.num_layers() * config.k_min + static_cast<int64_t>(room);
    const TailProbability tail = sliding_maximum_tail(one, width, goal.num_micro_batches, bound, num_samples, s);
    log_within += std::log1p(-tail.value);
    variance += tail.standard_error * tail.standard_error;
  }
  const double steps = goal.steps * goal.replicas;
  return {-std::expm1(steps * log_within), steps * std::exp(steps * log_within) * std::sqrt(variance)};
}

BudgetTuning tune_pipeline_budget(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                  const PipelineGoal& goal) {
  MMOE_CHECK(!stages.empty() && config.granularity == Granularity::kLayer) << stages.size() << " stages";
  MMOE_CHECK(goal.memory_limit.has_value() != goal.saving.has_value()) << "one goal is wanted";
  MMOE_CHECK(goal.confidence > 0 && goal.confidence < 1) << "confidence " << goal.confidence;
  MMOE_CHECK(goal.steps >= 1 && goal.replicas >= 1 && goal.num_micro_batches >= 1) << goal.steps;
  for (const PipelineStage& stage : stages) MMOE_CHECK(stage.num_layers() >= 1 && stage.slope >= 0) << stage.slope;
  return PipelineTuner(config, stages, goal).tune();
}

}  // namespace mmoe
