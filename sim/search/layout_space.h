#pragma once
// Which layouts a job leaves open, and which of them are valid.

#include <utility>
#include <vector>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// What decides a rank's shapes: all that the pipeline, the schedule and the sharding do not change.
struct LayoutShape {
  int64_t tensor = 1, context = 1, expert = 1, expert_tensor = 1, micro_batch_size = 1;
  std::size_t recompute = 0;  // index into LayoutSpace::recomputes
  ExpertSaving expert_saving = ExpertSaving::kLean;
  bool sequence = false;
  DispatcherKind dispatcher = DispatcherKind::kAllToAll;
  ContextKind context_kind = ContextKind::kRing;
};

// How a pipeline of some ranks may run.
struct ScheduleChoice {
  PipelineSchedule schedule = PipelineSchedule::kOneForwardOneBackward;
  int64_t virtual_pipeline = 1;
  bool operator==(const ScheduleChoice&) const = default;
};

class LayoutSpace {
 public:
  // Keys of Job::given have one value each, all others every value that the model and the devices allow, of schedules,
  // stages and kinds those that the framework runs.
  // Both must outlive the space.
  LayoutSpace(const Job& job, const Framework& framework);

  std::vector<int64_t> tensors, contexts, experts, expert_tensors, micro_batches, pipelines, zero_stages;
  std::vector<Recompute> recomputes;
  std::vector<ExpertSaving> expert_savings;
  std::vector<bool> sequences;
  std::vector<DispatcherKind> dispatchers;
  std::vector<ContextKind> context_kinds;

  std::vector<LayoutShape> shapes() const;
  std::vector<ScheduleChoice> schedules(int64_t pipeline) const;
  void apply(const LayoutShape& shape, Job& job) const;

  // Why the job's layout is impossible, or what the framework lacks that the job does not ask for; null where it is
  // possible.
  const char* why_not(const Job& job) const;

 private:
  std::vector<std::pair<std::size_t, ExpertSaving>> recomputations() const;
  std::vector<int64_t> chunks_of_equal_length(int64_t pipeline) const;

  const Job& job_;
  const Framework& framework_;
  bool schedule_given_, virtual_given_, pipelines_embeddings_, tensor_needs_sequence_;
  std::vector<SplitDegree> missing_;  // what the framework lacks and the job does not name
};

}  // namespace mmoe
