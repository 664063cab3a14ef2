#include "sim/search/layout_search.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <thread>
#include <tuple>

#include "sim/cluster/memory_model.h"
#include "sim/cluster/step_time.h"
#include "sim/elastic/elastic_law.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/schedule/v_shaped.h"
#include "sim/search/layout_space.h"
#include "sim/search/stage_plans.h"

namespace mmoe {
namespace {

// Quantile of the standard normal law, by bisection: no more than a few calls a search.
double normal_quantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < probability ? low : high) = middle;
  }
  return low;
}

// Mean k of the law, and the largest mean k over the layers that it allows.
struct ExpertsOfLaw {
  double mean = 0, largest = 0;
};
ExpertsOfLaw experts_of_law(const Job& job) {
  const auto layers = static_cast<double>(job.model.num_moe_layers());
  if (layers == 0) return {};
  const bool drawn = job.elastic.sampling != Sampling::kTopP && job.elastic.k_min < job.elastic.k_max;
  if (!drawn) return {static_cast<double>(job.elastic.k_max), static_cast<double>(job.elastic.k_max)};
  const ElasticLaw law(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  return {law.sum().mean() / layers, static_cast<double>(law.sum().max()) / layers};
}

// Layouts with the job's own cut into stages, groups of ZeRO and offload; then other cuts; then other groups and
// offloads, of any cut. A round leaves less to the next one.
enum class Round { kFirst, kCuts, kGroupsAndOffloads };

constexpr double kHopeless = std::numeric_limits<double>::infinity();

// What one thread finds.
struct Found {
  std::vector<LayoutCandidate> best;   // up to `top`, fastest first
  std::vector<LayoutCandidate> front;  // by rising time
  int64_t evaluated = 0;
  std::map<FamilyKey, LayoutFamily> families;
};

std::size_t best_of(const LayoutSearchOptions& options) {
  return static_cast<std::size_t>(std::max<int64_t>(options.top, 1));
}

// The same whatever threads found them.
bool is_before(const LayoutCandidate& a, const LayoutCandidate& b) {
  return std::tie(a.step_seconds, a.peak_bytes, a.shape) < std::tie(b.step_seconds, b.peak_bytes, b.shape);
}

void add_best(std::vector<LayoutCandidate>& best, const LayoutCandidate& candidate, std::size_t top) {
  if (best.size() == top && !is_before(candidate, best.back())) return;
  const auto variant = std::find_if(best.begin(), best.end(),
                                    [&](const LayoutCandidate& other) { return are_variants(other, candidate); });
  if (variant != best.end()) {
    if (!is_before(candidate, *variant)) return;
    best.erase(variant);
  }
  const auto place = std::upper_bound(best.begin(), best.end(), candidate, is_before);
  best.insert(place, candidate);
  if (best.size() > top) best.pop_back();
}

void add_front(std::vector<LayoutCandidate>& front, const LayoutCandidate& candidate) {
  const auto place = std::upper_bound(front.begin(), front.end(), candidate, is_before);
  if (place != front.begin() && std::prev(place)->peak_bytes <= candidate.peak_bytes) return;
  auto end = place;
  while (end != front.end() && end->peak_bytes >= candidate.peak_bytes) ++end;
  front.insert(front.erase(place, end), candidate);
}

class ShapeSearch {
 public:
  ShapeSearch(const Job& job, const Framework& framework, const LayoutSpace& space, const ExpertsOfLaw& experts,
              const std::vector<PipelinePlans>& pipelines, const LayoutSearchOptions& options, Round round,
              double slowest, std::vector<double>& least_steps)
      : job_(job),
        framework_(framework),
        space_(space),
        experts_(experts),
        pipelines_(pipelines),
        round_(round),
        slowest_(slowest),
        least_steps_(least_steps),
        limit_(limit_at(options.confidence, "peak_reserved_bytes")),
        trainer_limit_(limit_at(options.confidence, "peak_allocated_bytes")),
        top_(best_of(options)),
        times_all_(options.times_all) {}

  // `index`: of the shape.
  void run(const LayoutShape& shape, std::size_t index, Found& found) {
    const bool is_offloaded = shape.offload != space_.offloads.front();
    if (is_offloaded && round_ != Round::kGroupsAndOffloads) return;
    if (round_ != Round::kFirst && least_steps_[shape.without_offload] > slowest_) return;
    space_.apply(shape, job_);
    shape_ = index;
    models_.reset();
    whole_model_.assign(static_cast<std::size_t>(job_.model.num_layers) + 1, 0);
    for (const PipelinePlans& plans : pipelines_) {
      job_.parallelism.pipeline = plans.pipeline;
      LayoutFamily& family = found.families[{plans.pipeline, shape.tensor}];
      over_memory_ = nullptr;
      if (const char* reason = space_.why_not(job_)) {
        if (round_ == Round::kFirst) {
          family.of(reason).count += static_cast<int64_t>(plans.plans.size()) - plans.num_variants;
        }
        continue;
      }
      if (!models_) models_.emplace(job_, framework_, experts_);
      const double least = least_of_pipeline_recomputing_least();
      if (round_ == Round::kFirst) least_steps_[index] = std::min(least_steps_[index], least);
      if (round_ != Round::kFirst && least > slowest_) continue;
      for (const StagePlan& plan : plans.plans) {
        const bool is_of_round = round_ == Round::kFirst  ? !plan.is_variant
                                 : round_ == Round::kCuts ? plan.is_variant
                                                          : is_offloaded || space_.zero_groups.size() > 1;
        if (is_of_round) run(plan, is_offloaded, found, family);
      }
    }
  }

 private:
  // Of one shape, whatever its pipeline, schedule and sharding. Refers to the job.
  struct Models {
    StepModel step;
    MemoryModel memory;
    Models(const Job& job, const Framework& framework, const ExpertsOfLaw& experts)
        : step(job, framework, experts.mean), memory(job, framework, experts.largest) {}
  };

  // Of one pipeline, however its states are sharded.
  struct PipelineTime {
    PipelineShape shape;
    double backward = 0;  // of the slowest rank
    double least = 0;     // no step is shorter
    std::optional<double> exact = std::nullopt;
  };

  // Of one pipeline with one number of recomputed layers, however its states are sharded. Parts are worked out when
  // they are asked for.
  struct Laid {
    std::vector<RankContents> contents;  // [StagePlan::distinct]
    std::vector<ChunkSeconds> chunks;    // [rank * virtual_pipeline + chunk]
    std::optional<PipelineTime> time;
    void clear() {
      contents.clear();
      chunks.clear();
      time.reset();
    }
  };

  // With `full` recomputation of the first so many layers of each chunk; 0: as the job says. Changes the job to it.
  Laid& laid(int64_t recomputed_layers) {
    if (num_laid_ > 1) job_.training.recompute.num_layers = recomputed_layers;
    return laid_[static_cast<std::size_t>(recomputed_layers)];
  }

  // Peaks that keep this confidence of fitting, over the error of the model that predicts them.
  double limit_at(double confidence, const char* quantity) const {
    return allocatable_memory(job_, framework_).value /
           std::exp(framework_.spread_of(quantity, job_.model.num_moe_layers() > 0) * normal_quantile(confidence));
  }

  // Bytes of the highest pipeline rank, which may not pass `limit`.
  struct HighestRank {
    double peak = 0, limit = 0;
    int64_t rank = 0;
    Bytes host = {};  // the most that a rank offloads
    void add(double bytes, int64_t of_rank) {
      if (bytes <= peak) return;
      peak = bytes;
      rank = of_rank;
    }
  };

  bool layers_are_open() const { return space_.recomputed_layers_are_searched && job_.training.recompute.full; }

  void run(const StagePlan& plan, bool is_offloaded, Found& found, LayoutFamily& family) {
    job_.parallelism.virtual_pipeline = plan.schedule.virtual_pipeline;
    job_.parallelism.schedule = plan.schedule.schedule;
    job_.parallelism.stage_layers = plan.stage_layers;
    if (!pipeline_shape(job_).is_valid()) {
      if (round_ == Round::kFirst) {
        ++family.of("too few micro-batches for the interleaved schedule, or no whole groups of them").count;
      }
      return;
    }
    if (layers_are_open()) job_.training.recompute.num_layers = 0;
    num_laid_ = layers_are_open() ? static_cast<std::size_t>(plan.longest) : 1;
    if (laid_.size() < num_laid_) laid_.resize(num_laid_);
    for (std::size_t i = 0; i < num_laid_; ++i) laid_[i].clear();
    sync_.reset();
    if (is_slow(plan)) return;
    for_each_sharding(is_offloaded, [&] {
      if (!evaluate(plan, laid(0), found, family)) return false;
      const int64_t fewest = fewest_recomputed_layers(plan);
      if (fewest > 0) evaluate(plan, laid(fewest), found, family);
      return true;
    });
  }

  // `evaluate`: whether it fits.
  template <class Evaluate>
  void for_each_sharding(bool is_offloaded, Evaluate&& evaluate) {
    for (const int64_t zero : space_.zero_stages) {
      job_.parallelism.zero_stage = zero;
      for (const int64_t group : space_.zero_groups) {
        const bool is_last = is_offloaded || group != space_.zero_groups.front();
        if (is_last != (round_ == Round::kGroupsAndOffloads)) continue;
        job_.parallelism.zero_group = group;
        if (!space_.has_valid_sharding(job_)) continue;
        const bool fits = std::any_of(space_.overlaps.begin(), space_.overlaps.end(), [&](bool overlap) {
          job_.training.overlap = overlap;
          return evaluate();
        });
        if (!fits) break;  // a rank of a smaller group holds more
      }
    }
  }

  // Of `full` recomputation that fits: the fewest layers of each chunk with which the layout still does. More of them
  // never take more memory nor less time, so these are the fastest. 0 where all are needed, or their number is not
  // open.
  int64_t fewest_recomputed_layers(const StagePlan& plan) {
    const auto fits = [&](int64_t layers) {
      const HighestRank highest = highest_rank(plan, laid(layers));
      return highest.peak <= highest.limit;
    };
    int64_t low = 1, high = static_cast<int64_t>(num_laid_) - 1;
    if (high < low || !fits(high)) return 0;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (fits(middle)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  HighestRank highest_rank(const StagePlan& plan, Laid& laid) const {
    HighestRank highest{.limit = limit_};
    if (predicts_trainer_ranks(job_)) return highest_trainer_rank();
    const MemoryModel& memory = models_->memory;
    if (laid.contents.empty()) {
      for (std::size_t i = 0; i < plan.distinct.size(); ++i) {
        laid.contents.push_back(memory.contents(plan.distinct[i], plan.distinct_ranks[i]));
      }
    }
    const StateShards shards = state_shards(job_);
    for (std::size_t i = 0; i < laid.contents.size(); ++i) {
      const RankMemory one = memory.rank(laid.contents[i], shards);
      highest.add(one.peak_reserved.value, plan.distinct_ranks[i]);
      highest.host = std::max(highest.host, one.host);
    }
    return highest;
  }

  // At the draw of the largest sum of k that takes most; every layer takes its share of what its k takes in all.
  HighestRank highest_trainer_rank() const {
    HighestRank highest{.limit = trainer_limit_};
    const int64_t k_max = job_.elastic.k_max, layers = job_.model.num_moe_layers();
    const bool is_bounded = layers > 0 && experts_.largest < static_cast<double>(k_max);
    const int64_t first = is_bounded ? job_.elastic.k_min : k_max;
    std::vector<std::vector<TrainerRankPeak>> at_k;  // [k - first][rank]
    for (int64_t k = first; k <= k_max; ++k) at_k.push_back(trainer_stage_peaks(job_, static_cast<int>(k)));
    const int64_t extra =
        is_bounded ? std::llround(experts_.largest * static_cast<double>(layers)) - layers * first : 0;
    for (std::size_t rank = 0; rank < at_k.front().size(); ++rank) {
      const double least = at_k.front()[rank].total.value;
      std::vector<double> most(static_cast<std::size_t>(extra) + 1, 0);  // [sum of k - first] of the layers so far
      for (int64_t layer = 0; layer < layers && is_bounded; ++layer) {
        for (std::size_t sum = most.size(); sum-- > 0;) {
          for (std::size_t j = 0; j < at_k.size() && j <= sum; ++j) {
            const double share = (at_k[j][rank].total.value - least) / static_cast<double>(layers);
            most[sum] = std::max(most[sum], most[sum - j] + share);
          }
        }
      }
      highest.add(least + most.back(), static_cast<int64_t>(rank));
    }
    return highest;
  }

  LayoutCandidate candidate(double seconds, double peak) const {
    return {job_.parallelism,
            job_.training.micro_batch_size,
            job_.training.recompute,
            job_.training.expert_saving,
            job_.training.moe.dispatcher,
            job_.training.overlap,
            job_.training.offload,
            seconds,
            peak,
            shape_};
  }

  // Whether it fits.
  bool evaluate(const StagePlan& plan, Laid& laid, Found& found, LayoutFamily& family) {
    ++found.evaluated;
    if (is_farther_than_closest()) {
      ++over_memory_->count;
      return false;
    }
    const auto [peak, limit, highest, host] = highest_rank(plan, laid);
    if (peak > limit) {
      if (over_memory_ == nullptr) over_memory_ = &family.of(kOverMemory);
      Rejection& rejection = *over_memory_;
      ++rejection.count;
      const double excess = peak - limit;
      if (rejection.closest && excess >= rejection.least_excess_bytes) return false;
      rejection.least_excess_bytes = excess;
      rejection.stage = highest;
      rejection.closest = candidate(0, peak);
      return false;
    }
    if (!host_holds(job_, host)) {
      ++family.of(kOverHostMemory).count;
      return false;
    }
    ++family.fitting;
    const double seconds = step_seconds(plan, laid, found, peak);
    if (seconds == kHopeless) return true;
    const LayoutCandidate one = candidate(seconds, peak);
    add_best(found.best, one, top_);
    add_front(found.front, one);
    return true;
  }

  // Whether no cut of it fits or comes closer to fitting than what the family has.
  bool is_farther_than_closest() const {
    if (over_memory_ == nullptr || predicts_trainer_ranks(job_)) return false;
    const double least = models_->memory.least_peak(state_shards(job_)).value;
    return least - limit_ >= over_memory_->least_excess_bytes;
  }

  // No step of such a pipeline is shorter, however it is cut and sharded: no rank is faster than the mean of all.
  double least_of_pipeline() {
    const double mean = whole_model_seconds() / static_cast<double>(job_.parallelism.pipeline);
    return models_->step.least_step(static_cast<double>(job_.num_micro_batches()) * mean);
  }

  // The same of this cut.
  double least_of(const PipelineTime& time) const { return models_->step.least_step(time.least); }

  double least_of_pipeline_recomputing_least() {
    if (layers_are_open()) job_.training.recompute.num_layers = 1;
    return least_of_pipeline();
  }

  // Whether it is too slow for the round, with as few recomputed layers as can be.
  bool is_slow(const StagePlan& plan) {
    if (slowest_ == kHopeless) return false;
    Laid& fewest = laid(num_laid_ > 1 ? 1 : 0);
    time(plan, fewest);
    return least_of(*fewest.time) > slowest_;
  }

  void time(const StagePlan& plan, Laid& laid) {
    time_chunks(plan, laid);
    laid.time = pipeline_time(plan, laid);
  }

  // What can no longer be among the best, nor on the front, is not worked out: kHopeless.
  double step_seconds(const StagePlan& plan, Laid& laid, const Found& found, double peak) {
    if (!laid.time) {
      if (!times_all_ && is_hopeless(found, least_of_pipeline(), peak)) return kHopeless;
      time(plan, laid);
    }
    PipelineTime& time = *laid.time;
    if (!times_all_ && is_hopeless(found, least_of(time), peak)) return kHopeless;
    double seconds = time.least + overhead(plan, time.least, time.backward);
    if (plan.pipeline > 1 && !is_hopeless(found, seconds, peak)) {
      if (!time.exact) {
        time.exact = (time.shape.is_v_shaped() ? v_shaped_.seconds(time.shape, laid.chunks, transfers_)
                                               : pipeline_seconds(time.shape, laid.chunks, transfers_))
                         .value;
      }
      seconds = *time.exact + overhead(plan, *time.exact, time.backward);
    }
    return is_hopeless(found, seconds, peak) ? kHopeless : seconds;
  }

  // One micro-batch through all layers on one device; no more of them run forward again than in a pipeline, where every
  // chunk has as many as the job says.
  double whole_model_seconds() {
    const int64_t recomputed = std::min(job_.training.recompute.num_layers, job_.model.num_layers);
    double& seconds = whole_model_[static_cast<std::size_t>(recomputed)];
    if (seconds == 0) {
      const StageChunk all{.num_layers = job_.model.num_layers, .embedding = true, .head = true};
      seconds = models_->step.work(all).device.total().value;
    }
    return seconds;
  }

  // Neighbours are mostly alike.
  void time_chunks(const StagePlan& plan, Laid& laid) const {
    const StageChunk* last = nullptr;
    for (const auto& rank : plan.stages) {
      for (const StageChunk& chunk : rank) {
        const bool again = last != nullptr && have_equal_content(job_.model, *last, chunk);
        laid.chunks.push_back(again ? laid.chunks.back() : joined(models_->step.work(chunk), framework_.time));
        last = &chunk;
      }
    }
  }

  // Sets transfers_ too.
  PipelineTime pipeline_time(const StagePlan& plan, const Laid& laid) {
    PipelineTime time{.shape = pipeline_shape(job_)};
    transfers_.mode = TransferMode::kBlocking;
    transfers_.seconds.assign(plan.pipeline > 1 ? static_cast<std::size_t>(plan.pipeline) : 0,
                              models_->step.transfer());
    double slowest = 0;
    const auto v = static_cast<std::size_t>(plan.schedule.virtual_pipeline);
    for (std::size_t rank = 0; rank < plan.stages.size(); ++rank) {
      double sum = 0, back = 0;
      for (std::size_t chunk = rank * v; chunk < (rank + 1) * v; ++chunk) {
        sum += laid.chunks[chunk].total().value;
        back += laid.chunks[chunk].backward().value;
      }
      if (sum > slowest) {
        slowest = sum;
        time.backward = back;
      }
    }
    time.least = least_step_seconds(time.shape, laid.chunks, transfers_).value;
    return time;
  }

  double overhead(const StagePlan& plan, double pipeline, double backward) {
    if (!sync_ || !models_->step.holds(*sync_)) sync_ = models_->step.sync(plan.distinct);
    const ClusterStepTime tail = models_->step.tail(*sync_, pipeline, backward);
    return tail.data_transfers + tail.optimizer + tail.stragglers + tail.fixed;
  }

  // Neither among the best nor on the front.
  bool is_hopeless(const Found& found, double seconds, double peak) const {
    if (found.best.size() < top_) return false;
    const LayoutCandidate& last = found.best.back();
    if (std::tie(seconds, peak) < std::tie(last.step_seconds, last.peak_bytes)) return false;
    const auto place = std::upper_bound(found.front.begin(), found.front.end(), seconds,
                                        [](double a, const LayoutCandidate& b) { return a < b.step_seconds; });
    return place != found.front.begin() && std::prev(place)->peak_bytes <= peak;
  }

  Job job_;
  std::size_t shape_ = 0;
  const Framework& framework_;
  const LayoutSpace& space_;
  ExpertsOfLaw experts_;
  const std::vector<PipelinePlans>& pipelines_;
  Round round_;
  double slowest_;                    // seconds of a step that a variant may take
  std::vector<double>& least_steps_;  // by shape, which no layout of it undercuts: of the first round, for the next
  double limit_, trainer_limit_;
  std::size_t top_;
  bool times_all_;
  Rejection* over_memory_ = nullptr;  // of the family at hand, once one of it does not fit
  std::optional<Models> models_;      // once the shape has a valid pipeline
  std::vector<double> whole_model_;   // seconds of the shape at hand, [recomputed layers]; 0: not yet known
  std::vector<Laid> laid_;            // of the pipeline at hand, [recomputed layers]; of these num_laid_
  std::size_t num_laid_ = 0;
  std::optional<StepSync> sync_;  // the same
  Transfers transfers_;
  VShapedSteps v_shaped_;
};

void add(const Found& found, std::size_t top, LayoutSearchResult& result) {
  result.evaluated += found.evaluated;
  for (const LayoutCandidate& candidate : found.best) add_best(result.candidates, candidate, top);
  for (const LayoutCandidate& candidate : found.front) add_front(result.front, candidate);
  for (const auto& [key, family] : found.families) {
    LayoutFamily& sum = result.families[key];
    sum.fitting += family.fitting;
    for (const auto& [reason, rejection] : family.rejected) {
      sum.rejected[reason].merge(rejection);
      result.rejected[reason].merge(rejection);
    }
  }
}

}  // namespace

LayoutSearchResult search_layouts(const Job& job, const Framework& framework, const LayoutSearchOptions& options) {
  framework.check_options(job.training.options, job.where);
  const auto begin = std::chrono::steady_clock::now();
  const LayoutSpace space(job, framework);
  const ExpertsOfLaw experts = experts_of_law(job);
  const std::vector<PipelinePlans> pipelines = pipeline_plans(job, framework, space);
  const std::vector<LayoutShape> shapes = space.shapes();
  std::vector<double> least_steps(shapes.size(), kHopeless);
  LayoutSearchResult result;
  // `slowest`: step of the layouts of the round.
  const auto run_round = [&](Round round, double slowest) {
    std::vector<Found> found(static_cast<std::size_t>(std::max(1, options.num_threads)));
    std::atomic<std::size_t> next = 0;
    {
      std::vector<std::jthread> threads;
      for (Found& mine : found) {
        mine.best = result.candidates;
        mine.front = result.front;
        threads.emplace_back([&] {
          ShapeSearch search(job, framework, space, experts, pipelines, options, round, slowest, least_steps);
          for (std::size_t i = next++; i < shapes.size(); i = next++) search.run(shapes[i], i, mine);
        });
      }
    }
    for (const Found& mine : found) add(mine, best_of(options), result);
  };
  run_round(Round::kFirst, kHopeless);
  for (const Round round : {Round::kCuts, Round::kGroupsAndOffloads}) {
    const bool is_open = round == Round::kCuts ? space.cuts_are_open() : space.groups_or_offload_are_open();
    const bool is_full = result.candidates.size() == best_of(options);
    if (is_open) run_round(round, is_full ? result.candidates.back().step_seconds : kHopeless);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace mmoe
