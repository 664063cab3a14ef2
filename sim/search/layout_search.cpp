#include "sim/search/layout_search.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <thread>

#include "sim/cluster/memory_model.h"
#include "sim/cluster/step_time.h"
#include "sim/config/sections.h"
#include "sim/elastic/elastic_law.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/schedule/v_shaped.h"
#include "sim/search/layout_space.h"

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

// Stages of one pipeline and schedule, and the ranks that can hold its peak: of equal neighbours the first holds most
// micro-batches.
struct StagePlan {
  int64_t pipeline = 1;
  ScheduleChoice schedule;
  std::vector<int64_t> stage_layers;
  PipelineStages stages;
  std::vector<int64_t> distinct_ranks;
  PipelineStages distinct;  // their chunks
};

bool equal_content(const ModelConfig& model, const std::vector<StageChunk>& a, const std::vector<StageChunk>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].num_layers != b[i].num_layers || a[i].embedding != b[i].embedding || a[i].head != b[i].head ||
        a[i].num_moe_layers(model) != b[i].num_moe_layers(model)) {
      return false;
    }
  }
  return true;
}

StagePlan stage_plan(const Job& job, const Framework& framework) {
  const ParallelismConfig& p = job.parallelism;
  StagePlan plan{p.pipeline, {p.schedule, p.virtual_pipeline}, p.stage_layers, pipeline_stages(job, framework), {}, {}};
  for (std::size_t rank = 0; rank < plan.stages.size(); ++rank) {
    if (rank > 0 && equal_content(job.model, plan.stages[rank], plan.stages[rank - 1])) continue;
    plan.distinct_ranks.push_back(static_cast<int64_t>(rank));
    plan.distinct.push_back(plan.stages[rank]);
  }
  return plan;
}

// What one thread finds.
struct Found {
  std::vector<LayoutCandidate> best;   // up to `top`, fastest first
  std::vector<LayoutCandidate> front;  // by rising time
  int64_t evaluated = 0;
  std::map<FamilyKey, LayoutFamily> families;
};

void add_best(std::vector<LayoutCandidate>& best, const LayoutCandidate& candidate, std::size_t top) {
  if (best.size() == top && candidate.step_seconds >= best.back().step_seconds) return;
  const auto place = std::upper_bound(best.begin(), best.end(), candidate,
                                      [](const auto& a, const auto& b) { return a.step_seconds < b.step_seconds; });
  best.insert(place, candidate);
  if (best.size() > top) best.pop_back();
}

void add_front(std::vector<LayoutCandidate>& front, const LayoutCandidate& candidate) {
  const auto place = std::lower_bound(front.begin(), front.end(), candidate,
                                      [](const auto& a, const auto& b) { return a.step_seconds < b.step_seconds; });
  if (place != front.begin() && std::prev(place)->peak_bytes <= candidate.peak_bytes) return;
  if (place != front.end() && place->step_seconds == candidate.step_seconds &&
      place->peak_bytes <= candidate.peak_bytes)
    return;
  auto end = place;
  while (end != front.end() && end->peak_bytes >= candidate.peak_bytes) ++end;
  front.insert(front.erase(place, end), candidate);
}

// Throws ConfigError where the job's own cut into stages is none of the model, or of no pipeline that it leaves open.
void check_stage_layers(const Job& job, bool has_plans) {
  const std::vector<int64_t>& layers = job.parallelism.stage_layers;
  if (layers.empty()) return;
  const bool is_negative = *std::min_element(layers.begin(), layers.end()) < 0;
  if (is_negative || std::accumulate(layers.begin(), layers.end(), int64_t{0}) != job.model.num_layers) {
    throw ConfigError(about(job.where, "parallelism.stage_layers", layers) +
                      "must add up to model.num_layers = " + std::to_string(job.model.num_layers));
  }
  if (!has_plans) {
    throw ConfigError(about(job.where, "parallelism.stage_layers", layers) + "lists " + std::to_string(layers.size()) +
                      " chunks, and no pipeline x virtual_pipeline that the job leaves open has as many; leave one of "
                      "the three open");
  }
}

class ShapeSearch {
 public:
  ShapeSearch(const Job& job, const Framework& framework, const LayoutSpace& space, const ExpertsOfLaw& experts,
              const std::vector<StagePlan>& plans, double confidence, std::size_t top)
      : job_(job),
        framework_(framework),
        space_(space),
        experts_(experts),
        plans_(plans),
        limit_(limit_at(confidence, "peak_reserved_bytes")),
        trainer_limit_(limit_at(confidence, "peak_allocated_bytes")),
        top_(top) {}

  void run(const LayoutShape& shape, Found& found) {
    space_.apply(shape, job_);
    const StepModel step(job_, framework_, experts_.mean);
    const MemoryModel memory(job_, framework_, experts_.largest);
    for (const StagePlan& plan : plans_) {
      job_.parallelism.pipeline = plan.pipeline;
      job_.parallelism.virtual_pipeline = plan.schedule.virtual_pipeline;
      job_.parallelism.schedule = plan.schedule.schedule;
      job_.parallelism.stage_layers = plan.stage_layers;
      LayoutFamily& family = found.families[{plan.pipeline, shape.tensor}];
      const char* reason = space_.why_not(job_);
      if (reason == nullptr && !pipeline_shape(job_).is_valid()) {
        reason = "too few micro-batches for the interleaved schedule, or no whole groups of them";
      }
      if (reason != nullptr) {
        ++family.rejected[reason].count;
        continue;
      }
      time_chunks(plan, step);
      for_each_sharding([&] { evaluate(plan, step, memory, found, family); });
      if (!space_.recomputed_layers_are_searched || !job_.training.recompute.full) continue;
      for_each_sharding([&] {
        const int64_t fewest = fewest_recomputed_layers(plan, memory);
        if (fewest == 0) return;
        job_.training.recompute.num_layers = fewest;
        time_chunks(plan, step);
        evaluate(plan, step, memory, found, family);
        job_.training.recompute.num_layers = 0;
      });
    }
  }

 private:
  // Of one pipeline, however its states are sharded.
  struct PipelineTime {
    PipelineShape shape;
    double backward = 0;  // of the slowest rank
    double least = 0;     // no step is shorter
    std::optional<double> exact = std::nullopt;
  };

  // Peaks that keep this confidence of fitting, over the error of the model that predicts them.
  double limit_at(double confidence, const char* quantity) const {
    return allocatable_memory(job_, framework_).value /
           std::exp(framework_.spread_of(quantity, job_.model.num_moe_layers() > 0) * normal_quantile(confidence));
  }

  // Bytes of the highest pipeline rank, which may not pass `limit`.
  struct HighestRank {
    double peak = 0, limit = 0;
    int64_t rank = 0;
    void add(double bytes, int64_t of_rank) {
      if (bytes <= peak) return;
      peak = bytes;
      rank = of_rank;
    }
  };

  // Sets chunks_, and forgets the times that follow from others.
  void time_chunks(const StagePlan& plan, const StepModel& step) {
    chunks_.clear();
    for (const auto& rank : plan.stages) {
      for (const StageChunk& chunk : rank) {
        // Neighbours are mostly alike.
        const bool again = !chunks_.empty() && alike(chunk);
        if (!again) {
          last_ = chunk;
          chunks_.push_back(joined(step.work(chunk), framework_.time));
        } else {
          chunks_.push_back(chunks_.back());
        }
      }
    }
    time_.reset();
  }

  template <class Evaluate>
  void for_each_sharding(Evaluate&& evaluate) {
    for (const int64_t zero : space_.zero_stages) {
      job_.parallelism.zero_stage = zero;
      for (const int64_t group : space_.zero_groups) {
        if (!space_.divides_replicas(job_, group)) continue;
        job_.parallelism.zero_group = group;
        for (const bool overlap : space_.overlaps) {
          job_.training.overlap = overlap;
          evaluate();
        }
      }
    }
  }

  // Of `full` recomputation: the fewest layers of each chunk with which the layout fits. More of them never take more
  // memory nor less time, so these are the fastest. 0 where no fewer than all fit.
  int64_t fewest_recomputed_layers(const StagePlan& plan, const MemoryModel& memory) {
    int64_t longest = 0;
    for (const auto& rank : plan.stages) {
      for (const StageChunk& chunk : rank) longest = std::max(longest, chunk.num_layers);
    }
    const auto fits = [&](int64_t layers) {
      job_.training.recompute.num_layers = layers;
      const HighestRank highest = highest_rank(plan, memory);
      return highest.peak <= highest.limit;
    };
    int64_t low = 1, high = longest - 1;
    if (high < low || !fits(high)) low = high = 0;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (fits(middle)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    job_.training.recompute.num_layers = 0;
    return low;
  }

  HighestRank highest_rank(const StagePlan& plan, const MemoryModel& memory) const {
    HighestRank highest{.limit = limit_};
    if (predicts_trainer_ranks(job_)) return highest_trainer_rank();
    for (std::size_t i = 0; i < plan.distinct.size(); ++i) {
      highest.add(memory.rank(plan.distinct[i], plan.distinct_ranks[i]).peak_reserved.value, plan.distinct_ranks[i]);
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

  bool alike(const StageChunk& chunk) const {
    return last_.num_layers == chunk.num_layers && last_.embedding == chunk.embedding && last_.head == chunk.head &&
           last_.num_moe_layers(job_.model) == chunk.num_moe_layers(job_.model);
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
            peak};
  }

  void evaluate(const StagePlan& plan, const StepModel& step, const MemoryModel& memory, Found& found,
                LayoutFamily& family) {
    ++found.evaluated;
    const auto [peak, limit, highest] = highest_rank(plan, memory);
    if (peak > limit) {
      Rejection& rejection = family.rejected[kOverMemory];
      ++rejection.count;
      const double excess = peak - limit;
      if (rejection.closest && excess >= rejection.least_excess_bytes) return;
      rejection.least_excess_bytes = excess;
      rejection.stage = highest;
      rejection.closest = candidate(0, peak);
      return;
    }
    ++family.fitting;
    if (!time_) time_ = pipeline_time(plan, step);
    PipelineTime& time = *time_;
    // What can no longer be among the best is not worked out.
    double seconds = time.least + overhead(plan, step, time.least, time.backward);
    if (is_hopeless(found, seconds, peak)) return;
    if (plan.pipeline > 1) {
      if (!time.exact) {
        time.exact = (time.shape.is_v_shaped() ? v_shaped_.seconds(time.shape, chunks_, transfers_)
                                               : pipeline_seconds(time.shape, chunks_, transfers_))
                         .value;
      }
      seconds = *time.exact + overhead(plan, step, *time.exact, time.backward);
      if (is_hopeless(found, seconds, peak)) return;
    }
    const LayoutCandidate one = candidate(seconds, peak);
    add_best(found.best, one, top_);
    add_front(found.front, one);
  }

  // Sets transfers_ too.
  PipelineTime pipeline_time(const StagePlan& plan, const StepModel& step) {
    PipelineTime time{.shape = pipeline_shape(job_)};
    transfers_.mode = TransferMode::kBlocking;
    transfers_.seconds.assign(plan.pipeline > 1 ? static_cast<std::size_t>(plan.pipeline) : 0, step.transfer());
    double slowest = 0;
    const auto v = static_cast<std::size_t>(plan.schedule.virtual_pipeline);
    for (std::size_t rank = 0; rank < plan.stages.size(); ++rank) {
      double sum = 0, back = 0;
      for (std::size_t chunk = rank * v; chunk < (rank + 1) * v; ++chunk) {
        sum += chunks_[chunk].total().value;
        back += chunks_[chunk].backward().value;
      }
      if (sum > slowest) {
        slowest = sum;
        time.backward = back;
      }
    }
    time.least = least_step_seconds(time.shape, chunks_, transfers_).value;
    return time;
  }

  double overhead(const StagePlan& plan, const StepModel& step, double pipeline, double backward) const {
    const ClusterStepTime tail = step.tail(plan.distinct, pipeline, backward);
    return tail.data_transfers + tail.optimizer + tail.stragglers + tail.fixed;
  }

  // Neither among the best nor on the front.
  bool is_hopeless(const Found& found, double seconds, double peak) const {
    if (found.best.size() < top_ || seconds < found.best.back().step_seconds) return false;
    const auto place = std::upper_bound(found.front.begin(), found.front.end(), seconds,
                                        [](double a, const LayoutCandidate& b) { return a < b.step_seconds; });
    return place != found.front.begin() && std::prev(place)->peak_bytes <= peak;
  }

  Job job_;
  const Framework& framework_;
  const LayoutSpace& space_;
  ExpertsOfLaw experts_;
  const std::vector<StagePlan>& plans_;
  double limit_, trainer_limit_;
  std::size_t top_;
  std::vector<ChunkSeconds> chunks_;
  StageChunk last_;
  Transfers transfers_;
  VShapedSteps v_shaped_;
  std::optional<PipelineTime> time_;
};

}  // namespace

LayoutSearchResult search_layouts(const Job& job, const Framework& framework, const LayoutSearchOptions& options) {
  framework.check_options(job.training.options, job.where);
  const auto begin = std::chrono::steady_clock::now();
  const LayoutSpace space(job, framework);
  const ExpertsOfLaw experts = experts_of_law(job);
  std::vector<StagePlan> plans;
  Job staged = job;
  for (const int64_t pipeline : space.pipelines) {
    for (const ScheduleChoice& choice : space.schedules(pipeline)) {
      staged.parallelism.pipeline = pipeline;
      staged.parallelism.virtual_pipeline = choice.virtual_pipeline;
      staged.parallelism.schedule = choice.schedule;
      for (std::vector<int64_t>& cut : space.stage_cuts(pipeline * choice.virtual_pipeline)) {
        staged.parallelism.stage_layers = std::move(cut);
        plans.push_back(stage_plan(staged, framework));
      }
    }
  }
  check_stage_layers(job, !plans.empty());
  const std::vector<LayoutShape> shapes = space.shapes();
  const auto top = static_cast<std::size_t>(std::max<int64_t>(options.top, 1));
  const int num_threads = std::max(1, options.num_threads);
  std::vector<Found> found(static_cast<std::size_t>(num_threads));
  std::atomic<std::size_t> next = 0;
  {
    std::vector<std::jthread> threads;
    for (Found& mine : found) {
      threads.emplace_back([&] {
        ShapeSearch search(job, framework, space, experts, plans, options.confidence, top);
        for (std::size_t i = next++; i < shapes.size(); i = next++) search.run(shapes[i], mine);
      });
    }
  }
  LayoutSearchResult result;
  for (const Found& mine : found) {
    result.evaluated += mine.evaluated;
    for (const LayoutCandidate& candidate : mine.best) add_best(result.candidates, candidate, top);
    for (const LayoutCandidate& candidate : mine.front) add_front(result.front, candidate);
    for (const auto& [key, family] : mine.families) {
      LayoutFamily& sum = result.families[key];
      sum.fitting += family.fitting;
      for (const auto& [reason, rejection] : family.rejected) {
        sum.rejected[reason].merge(rejection);
        result.rejected[reason].merge(rejection);
      }
    }
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace mmoe
