#include "sim/search/layout_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "sim/plan/cluster_plan.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/search/layout_space.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

Job open_job(const char* elastic = R"({"k_min": 2, "k_max": 2, "sampling": "fixed"})") {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  json["training"].erase("micro_batch_size");
  json["parallelism"] = {{"stage_layers", nlohmann::json::array()}, {"zero_group", 0}};
  json["training"].merge_patch({{"recompute_num_layers", 0}, {"offload", "none"}});
  json["elastic"] = nlohmann::json::parse(elastic);
  return parse_job(json, "job.json", "/", {}, Layout::kOpen);
}

// Every layout, one by one, by the public functions and without any bound: `with` it as a job.
template <class With>
void for_each_layout(const Job& job, const Framework& framework, With&& with) {
  const LayoutSpace space(job, framework);
  for (const LayoutShape& shape : space.shapes()) {
    for (const int64_t pipeline : space.pipelines) {
      for (const ScheduleChoice& choice : space.schedules(pipeline)) {
        for (const int64_t zero : space.zero_stages) {
          Job tried = job;
          space.apply(shape, tried);
          tried.parallelism.pipeline = pipeline;
          tried.parallelism.virtual_pipeline = choice.virtual_pipeline;
          tried.parallelism.schedule = choice.schedule;
          tried.parallelism.zero_stage = zero;
          if (space.why_not(tried) == nullptr && pipeline_shape(tried).is_valid()) with(tried);
        }
      }
    }
  }
}

double highest_peak(const Job& job, const Framework& framework) {
  double peak = 0;
  for (const RankMemory& rank : cluster_memory(job, framework, 2)) peak = std::max(peak, rank.peak_reserved.value);
  return peak;
}

// The same number, the same best one.
TEST(LayoutSearch, EqualsBruteForce) {
  const Job job = open_job();
  Framework framework = framework_of(job);
  framework.schedules.push_back(PipelineSchedule::kZeroBubble);
  framework.context_kinds = {ContextKind::kRing, ContextKind::kAllToAll};
  const LayoutSearchResult result = search_layouts(job, framework, {.top = 3, .confidence = 0.5, .num_threads = 1});
  const double limit = job.hardware.usable_memory.value - framework.memory.context_bytes;
  int64_t evaluated = 0;
  double best = 1e18;
  for_each_layout(job, framework, [&](const Job& tried) {
    ++evaluated;
    if (highest_peak(tried, framework) > limit) return;
    best = std::min(best, cluster_step_time(tried, framework, 2).step());
  });
  EXPECT_EQ(result.evaluated, evaluated);
  ASSERT_EQ(result.candidates.size(), 3);
  EXPECT_NEAR(result.candidates[0].step_seconds / best, 1, 1e-9);
}

TEST(LayoutSearch, CandidatesAreValidJobsAndAgreeWithTheFullSimulation) {
  nlohmann::json json = example_cluster_json();
  json["model"] = "mixtral-8x7b";
  json.erase("parallelism");
  json["hardware"]["num_devices"] = 32;
  json["training"] = {{"framework", "megatron_core"}, {"seq_len", 4096}, {"global_batch_size", 128}};
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  for (const LayoutCandidate& candidate : search_layouts(job, framework, {.top = 40}).candidates) {
    const Job chosen = with_layout(job, candidate);
    EXPECT_NO_THROW(parse_job(to_json(chosen), "candidate", "/"));
    const ClusterPlan plan = simulate_cluster(chosen, framework);
    double peak = 0;
    for (const RankReport& rank : plan.ranks) peak = std::max(peak, rank.worst.peak_allocated.value);
    peak *= 1 + framework.memory.reserved_excess;
    EXPECT_NEAR(candidate.step_seconds / plan.time.step.mean(), 1, 0.01);
    EXPECT_NEAR(candidate.peak_bytes / peak, 1, 0.01);
  }
}

struct MultiplyingKey {
  const char *section, *key;
  nlohmann::json plain;
};
const MultiplyingKey kMultiplyingKeys[] = {{"parallelism", "stage_layers", nlohmann::json::array()},
                                           {"parallelism", "zero_group", 0},
                                           {"training", "recompute_num_layers", 0},
                                           {"training", "offload", "none"}};

// The example with some degrees given, and of the keys that multiply a search all but one.
nlohmann::json narrow_json(const std::string& open) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"tensor", 2}, {"sequence", true}, {"context", 1}, {"expert", 2}, {"expert_tensor", 1}};
  json["training"]["moe"] = {{"dispatcher", "alltoall"}};
  for (const MultiplyingKey& one : kMultiplyingKeys) {
    if (one.key != open && !open.empty()) json[one.section][one.key] = one.plain;
  }
  return json;
}

// All keys that multiply a search, one by one, every number of recomputed layers, and transfers that do not overlap,
// which the search leaves out as none is faster or smaller: the same best ones, of layouts that differ in these keys
// alone the best. Of two limits in GiB one leaves so little memory that some layers have to be recomputed, but not all.
constexpr double kTight = 2, kRoomy = 2.5;
class LayoutSearchUnderLimit : public testing::TestWithParam<double> {};
TEST_P(LayoutSearchUnderLimit, EqualsBruteForceWhereAllIsOpen) {
  nlohmann::json json = narrow_json("");
  json["training"].merge_patch({{"micro_batch_size", 8}, {"recompute", "full"}, {"global_batch_size", 128}});
  Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  Framework framework = framework_of(job);
  framework.choices = Framework().choices;
  framework.schedules.push_back(PipelineSchedule::kZeroBubble);
  const Bytes limit = gib(GetParam());
  job.hardware.usable_memory = Bytes{framework.memory.context_bytes} + limit;
  const LayoutSpace space(job, framework);
  std::map<std::string, double> best;  // seconds, by all but the keys that multiply
  int64_t evaluated = 0;
  // What the search evaluates of one layout, and whether it fits with all layers recomputed.
  struct Tried {
    int64_t evaluated = 1;
    bool fits = false;
  };
  const auto try_layers = [&](Job& tried) {
    int64_t longest = 0;
    for (const auto& rank : pipeline_stages(tried, framework)) {
      for (const StageChunk& chunk : rank) longest = std::max(longest, chunk.num_layers);
    }
    Tried result;
    for (int64_t layers = 0; layers < longest; ++layers) {
      tried.training.recompute.num_layers = layers;
      double peak = 0;
      for (const RankMemory& rank : cluster_memory(tried, framework, 2))
        peak = std::max(peak, rank.peak_reserved.value);
      if (peak > limit.value) continue;
      if (layers > 0) result.evaluated = 2;
      result.fits |= layers == 0;
      nlohmann::json base = to_json(tried);
      for (const MultiplyingKey& one : kMultiplyingKeys) base[one.section].erase(one.key);
      base["training"].erase("overlap");
      const double seconds = cluster_step_time(tried, framework, 2).step();
      const auto [place, is_new] = best.try_emplace(base.dump(), seconds);
      if (!is_new) place->second = std::min(place->second, seconds);
    }
    return result;
  };
  for (const LayoutShape& shape : space.shapes()) {
    for (const int64_t pipeline : space.pipelines) {
      for (const ScheduleChoice& choice : space.schedules(pipeline)) {
        for (const std::vector<int64_t>& cut : space.stage_cuts(pipeline, choice)) {
          for (const int64_t zero : space.zero_stages) {
            bool is_evaluated = true;  // not where a larger group does not fit
            for (const int64_t group : space.zero_groups) {
              for (const bool overlap : {false, true}) {
                Job tried = job;
                space.apply(shape, tried);
                tried.parallelism.pipeline = pipeline;
                tried.parallelism.virtual_pipeline = choice.virtual_pipeline;
                tried.parallelism.schedule = choice.schedule;
                tried.parallelism.stage_layers = cut;
                tried.parallelism.zero_stage = zero;
                tried.parallelism.zero_group = group;
                tried.training.overlap = overlap;
                if (space.why_not(tried) != nullptr || !pipeline_shape(tried).is_valid()) continue;
                if (!space.has_valid_sharding(tried)) continue;
                const Tried result = try_layers(tried);
                if (!overlap || !is_evaluated) continue;
                evaluated += result.evaluated;
                // All replicas alone come before the rest, but for what is offloaded.
                is_evaluated = result.fits || (group == 0 && shape.offload == Offload::kNone);
              }
            }
          }
        }
      }
    }
  }
  std::vector<double> fastest;
  for (const auto& [base, seconds] : best) fastest.push_back(seconds);
  std::sort(fastest.begin(), fastest.end());
  EXPECT_GT(evaluated, 500);
  for (const std::size_t top : {std::size_t{1}, std::size_t{3}, fastest.size() + 1}) {
    const LayoutSearchResult result =
        search_layouts(job, framework, {.top = static_cast<int64_t>(top), .confidence = 0.5, .num_threads = 1});
    ASSERT_EQ(result.candidates.size(), std::min(top, fastest.size()));
    for (std::size_t i = 0; i < result.candidates.size(); ++i) {
      EXPECT_NEAR(result.candidates[i].step_seconds / fastest[i], 1, 1e-9) << i;
    }
    if (GetParam() == kTight) {
      EXPECT_GT(result.candidates[0].recompute.num_layers, 1);
    }
    // Where the best fits without them not all variants have to be evaluated, nor for all candidates fewer than all.
    const bool all = GetParam() == kTight || top > fastest.size();
    EXPECT_EQ(result.evaluated == evaluated, all);
    EXPECT_LE(result.evaluated, evaluated);
  }
}
INSTANTIATE_TEST_SUITE_P(, LayoutSearchUnderLimit, testing::Values(kTight, kRoomy));

// What a bound rules out for a few candidates is none of the few: a search of everything begins with the same ones.
TEST(LayoutSearch, BeginsLikeASearchOfEverything) {
  for (const char* framework_name : {"megatron_core", "torch_fsdp"}) {
    for (const bool is_moe : {true, false}) {
      nlohmann::json json = example_cluster_json();
      json["parallelism"] = {{"tensor", 2}, {"sequence", true}, {"context", 1}};
      if (is_moe) json["parallelism"].merge_patch({{"expert", 2}, {"expert_tensor", 1}});
      if (!is_moe) json["model"].merge_patch({{"num_experts", 0}, {"expert_hidden_size", 0}, {"num_dense_layers", 8}});
      if (!is_moe) json.erase("elastic");
      json["training"].merge_patch({{"framework", framework_name}, {"micro_batch_size", nullptr}});
      Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
      Framework framework = framework_of(job);
      framework.choices = Framework().choices;
      job.hardware.usable_memory = Bytes{framework.memory.context_bytes} + gib(3);
      const LayoutSearchResult all = search_layouts(job, framework, {.top = 100000, .confidence = 0.5});
      ASSERT_GT(all.candidates.size(), 30);
      for (const std::size_t top : {1, 4, 20}) {
        const LayoutSearchResult few =
            search_layouts(job, framework, {.top = static_cast<int64_t>(top), .confidence = 0.5});
        EXPECT_LT(few.evaluated, all.evaluated);
        ASSERT_EQ(few.candidates.size(), top);
        for (std::size_t i = 0; i < top; ++i) {
          EXPECT_EQ(to_json(with_layout(job, few.candidates[i])), to_json(with_layout(job, all.candidates[i]))) << i;
        }
      }
    }
  }
}

// Each key alone: every value of it that the search finds is a valid job that the full simulation agrees with. With
// recomputed layers the search's own claim too: with one less the layout does not fit.
TEST(LayoutSearch, WhatMultipliesIsChosenAndAgreesWithTheFullSimulation) {
  for (const auto& [section, key, plain] : kMultiplyingKeys) {
    nlohmann::json json = narrow_json(key);
    json["training"].merge_patch({{"micro_batch_size", 4}, {"recompute", "full"}});
    Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
    Framework framework = framework_of(job);
    framework.choices = Framework().choices;
    job.hardware.usable_memory = Bytes{framework.memory.context_bytes} + gib(4);
    const LayoutSearchResult result = search_layouts(job, framework, {.top = 100000, .confidence = 0.5});
    std::map<std::string, const LayoutCandidate*> by_value;
    for (const LayoutCandidate& candidate : result.candidates) {
      by_value.try_emplace(to_json(with_layout(job, candidate))[section][key].dump(), &candidate);
    }
    EXPECT_GT(by_value.size(), 1) << key;
    for (const auto& [value, candidate] : by_value) {
      const Job chosen = with_layout(job, *candidate);
      EXPECT_NO_THROW(parse_job(to_json(chosen), "candidate", "/")) << key << " " << value;
      const ClusterPlan plan = simulate_cluster(chosen, framework);
      double peak = 0;
      for (const RankReport& rank : plan.ranks) peak = std::max(peak, rank.worst.peak_allocated.value);
      peak *= 1 + framework.memory.reserved_excess;
      EXPECT_NEAR(candidate->step_seconds / plan.time.step.mean(), 1, 0.01) << key << " " << value;
      EXPECT_NEAR(candidate->peak_bytes / peak, 1, 0.01) << key << " " << value;
      if (candidate->recompute.num_layers <= 1) continue;
      Job fewer = chosen;
      --fewer.training.recompute.num_layers;
      double without = 0;
      for (const RankMemory& rank : cluster_memory(fewer, framework, 2))
        without = std::max(without, rank.peak_reserved.value);
      EXPECT_GT(without, gib(4).value) << value;
    }
  }
}

// Our trainer's jobs on CPUs: the memory that a layout is judged by is that of the trainer's own ranks at the largest
// draw. Where a budget keeps that below k_max, the full simulation rounds sums of bytes up to its grid's cells, and
// takes the most of every replica's rows for itself; then they agree within the search's 1 %.
TEST(LayoutSearch, OnCpusJudgesLayoutsByTheTrainersOwnRanks) {
  for (const char* budget : {R"({})", R"({"budget": {"kind": "at_most", "sum_k": 8, "groups": [4]}})"}) {
    nlohmann::json json = R"({
      "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 4,
                "expert_hidden_size": 32},
      "hardware": {"device": "cpu", "num_devices": 4}, "parallelism": {"expert_tensor": 1, "stage_layers": []},
      "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 16, "precision": "fp32"},
      "elastic": {"k_min": 1, "k_max": 4}})"_json;
    json["elastic"].merge_patch(nlohmann::json::parse(budget));
    const bool is_bounded = json["elastic"].contains("budget");
    if (is_bounded) json["parallelism"]["pipeline"] = 1;  // one group of layers
    Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
    const Framework framework = framework_of(job);
    const LayoutSearchOptions all = {.top = 100000};
    const LayoutSearchResult roomy = search_layouts(job, framework, all);
    std::vector<double> peaks;
    for (std::size_t i = 0; i < roomy.candidates.size(); ++i) {
      const LayoutCandidate& candidate = roomy.candidates[i];
      peaks.push_back(candidate.peak_bytes);
      if (i % 13 != 0) continue;
      const Job chosen = with_layout(job, candidate);
      ASSERT_TRUE(predicts_trainer_ranks(chosen));
      double peak = 0;
      for (const RankReport& rank : simulate_cluster(chosen, framework).ranks) {
        peak = std::max(peak, rank.worst.peak_reserved.value);
      }
      ASSERT_NEAR(candidate.peak_bytes / peak, 1, is_bounded ? 0.01 : 1e-9) << to_json(chosen)["parallelism"];
    }
    ASSERT_GT(peaks.size(), 100);
    // What is left of them under a limit, by the error of that prediction.
    std::sort(peaks.begin(), peaks.end());
    job.hardware.usable_memory = Bytes{peaks[peaks.size() / 2]};
    const LayoutSearchResult tight = search_layouts(job, framework, all);
    constexpr double kQuantile = 2.3263478740408408;  // of the default confidence, 99 %
    const auto fitting = std::count_if(peaks.begin(), peaks.end(), [&](double peak) {
      return peak * std::exp(framework.spread_of("peak_allocated_bytes", job.model.num_moe_layers() > 0) * kQuantile) <=
             job.hardware.usable_memory.value;
    });
    EXPECT_GT(fitting, 0);
    const auto overlapping = std::count_if(tight.candidates.begin(), tight.candidates.end(),
                                           [](const LayoutCandidate& candidate) { return candidate.overlap; });
    EXPECT_EQ(overlapping, fitting);
    // Transfers wait for the pass that they belong to only where the layout does not fit otherwise.
    for (LayoutCandidate candidate : tight.candidates) {
      if (candidate.overlap) continue;
      candidate.overlap = true;
      EXPECT_EQ(std::count_if(tight.candidates.begin(), tight.candidates.end(),
                              [&](const LayoutCandidate& other) {
                                return to_json(with_layout(job, other)) == to_json(with_layout(job, candidate));
                              }),
                0);
    }
  }
}

// Optimiser states that the host cannot hold stay on the device.
TEST(LayoutSearch, OffloadsNoMoreThanTheHostHolds) {
  nlohmann::json json = narrow_json("offload");
  Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  job.hardware.usable_memory = Bytes{framework.memory.context_bytes} + gib(1);
  const LayoutSearchOptions all = {.top = 100000, .confidence = 0.5};
  const auto offloading = [](const LayoutSearchResult& result) {
    return std::count_if(result.candidates.begin(), result.candidates.end(),
                         [](const LayoutCandidate& candidate) { return candidate.offload != Offload::kNone; });
  };
  const LayoutSearchResult roomy = search_layouts(job, framework, all);
  EXPECT_GT(offloading(roomy), 0);
  EXPECT_FALSE(roomy.rejected.contains(kOverHostMemory));
  job.hardware.cluster_spec.host_memory = Bytes{1};
  const LayoutSearchResult full = search_layouts(job, framework, all);
  EXPECT_EQ(offloading(full), 0);
  EXPECT_GE(full.rejected.at(kOverHostMemory).count, offloading(roomy));
}

// A schedule that the job names stays, with its chunks: the V-shaped one is played, as the full simulation plays it.
TEST(LayoutSearch, APinnedZeroBubbleScheduleStays) {
  for (const int64_t chunks : {1, 2}) {
    nlohmann::json json = example_cluster_json();
    json["parallelism"] = {{"schedule", "zero_bubble"}, {"virtual_pipeline", chunks}, {"pipeline", 2}, {"tensor", 2}};
    const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
    const Framework framework = framework_of(job);
    const LayoutSearchResult result = search_layouts(job, framework, {.top = 5, .confidence = 0.5, .num_threads = 1});
    ASSERT_FALSE(result.candidates.empty());
    for (const LayoutCandidate& candidate : result.candidates) {
      EXPECT_EQ(candidate.parallelism.schedule, PipelineSchedule::kZeroBubble);
      EXPECT_EQ(candidate.parallelism.virtual_pipeline, chunks);
      const double full = simulate_cluster(with_layout(job, candidate), framework).time.step.mean();
      EXPECT_NEAR(candidate.step_seconds, full, 0.01 * full);
    }
  }
}

TEST(LayoutSearch, TheFrontHasNoLayoutThatAnotherBeats) {
  const Job job = open_job();
  const LayoutSearchResult result = search_layouts(job, framework_of(job));
  ASSERT_GT(result.front.size(), 1);
  for (std::size_t i = 1; i < result.front.size(); ++i) {
    EXPECT_GE(result.front[i].step_seconds, result.front[i - 1].step_seconds);
    EXPECT_LT(result.front[i].peak_bytes, result.front[i - 1].peak_bytes);
  }
  EXPECT_NEAR(result.front[0].step_seconds, result.candidates[0].step_seconds, 1e-12);
}

// Many layouts take the same time and the same bytes.
TEST(LayoutSearch, AnswersTheSameWhateverTheThreads) {
  for (const double usable : {1.2, 80.0}) {
    Job job = open_job();
    job.hardware.usable_memory = gib(usable);
    const auto answer = [&](int num_threads) {
      const LayoutSearchResult result = search_layouts(job, framework_of(job), {.top = 50, .num_threads = num_threads});
      nlohmann::json json;
      const auto add = [&](const std::string& where, const LayoutCandidate& c) {
        json[where].push_back({to_json(with_layout(job, c)), c.step_seconds, c.peak_bytes});
      };
      for (const LayoutCandidate& candidate : result.candidates) add("best", candidate);
      for (const LayoutCandidate& candidate : result.front) add("front", candidate);
      for (const auto& [reason, rejection] : result.rejected) {
        if (rejection.closest) add(reason, *rejection.closest);
      }
      return json.dump();
    };
    const std::string alone = answer(1);
    for (const int num_threads : {2, 3, 8}) EXPECT_EQ(answer(num_threads), alone) << num_threads;
  }
}

// The bound over the model stays when the number of pipeline ranks changes: nothing is gained by training fewer
// experts.
TEST(LayoutSearch, ABudgetIsSharedOutOverTheRanks) {
  const Job job = open_job(R"({"k_min": 1, "k_max": 6, "budget": {"kind": "at_most", "sum_k": 18}})");
  LayoutCandidate candidate;
  candidate.parallelism = job.parallelism;
  candidate.parallelism.pipeline = 2;
  const Job chosen = with_layout(job, candidate);
  EXPECT_EQ(chosen.elastic.budget->groups, (std::vector<int64_t>{2, 4}));  // two of the first four layers are dense
  EXPECT_EQ(chosen.elastic.budget->sum_k, (std::vector<int64_t>{6, 12}));
}

TEST(LayoutSearch, SaysHowFarTheClosestIsFromFitting) {
  Job job = open_job();
  job.hardware.usable_memory = gib(1.2);
  const Framework framework = framework_of(job);
  const LayoutSearchResult result = search_layouts(job, framework, {.confidence = 0.5});
  const double limit = allocatable_memory(job, framework).value;
  std::map<FamilyKey, double> least_excess;
  std::map<FamilyKey, int64_t> counts;
  for_each_layout(job, framework, [&](const Job& tried) {
    const FamilyKey key(tried.parallelism.pipeline, tried.parallelism.tensor);
    double& least = least_excess.try_emplace(key, 1e18).first->second;
    least = std::min(least, highest_peak(tried, framework) - limit);
    ++counts[key];
  });
  EXPECT_TRUE(result.candidates.empty());
  EXPECT_EQ(result.rejected.at("does not fit").count, result.evaluated);
  EXPECT_GT(result.rejected.at("does not fit").least_excess_bytes, 0);
  // By family: all are rejected, and the closest of them is the closest of all.
  const auto families = rejected_families(result.families).at("does not fit");
  EXPECT_EQ(families.size(), least_excess.size());
  double least = 1e18;
  for (const auto& [key, rejection] : families) {
    EXPECT_EQ(rejection.count, counts.at(key));
    EXPECT_NEAR(rejection.least_excess_bytes, least_excess.at(key), 1);
    EXPECT_EQ(rejection.closest->parallelism.pipeline, key.first);
    EXPECT_EQ(rejection.closest->parallelism.tensor, key.second);
    least = std::min(least, rejection.least_excess_bytes);
  }
  EXPECT_EQ(least, result.rejected.at("does not fit").least_excess_bytes);
}

}  // namespace
}  // namespace mmoe
