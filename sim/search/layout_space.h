#pragma once
// Which layouts a job leaves open, and which of them are valid.

#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// What decides a rank's shapes: all that the pipeline, the schedule and the sharding do not change.
struct LayoutShape {
  int64_t tensor = 1, context = 1, expert = 1, expert_tensor = 1, micro_batch_size = 1;
  std::size_t recompute = 0;  // index into LayoutSpace::recomputes
  bool sequence = false;
  DispatcherKind dispatcher = DispatcherKind::kAllToAll;
};

class LayoutSpace {
 public:
  // Keys of Job::given have one value each, all others every value that the model and the devices allow.
  explicit LayoutSpace(const Job& job);

  std::vector<int64_t> tensors, contexts, experts, expert_tensors, micro_batches, pipelines, zero_stages;
  std::vector<Recompute> recomputes;
  std::vector<bool> sequences;
  std::vector<DispatcherKind> dispatchers;

  std::vector<LayoutShape> shapes() const;
  std::vector<int64_t> virtual_pipelines(int64_t pipeline) const;
  std::vector<PipelineSchedule> schedules(int64_t virtual_pipeline) const;
  void apply(const LayoutShape& shape, Job& job) const;

  // Why the job's layout is impossible; null where it is possible.
  const char* why_not(const Job& job) const;

 private:
  const Job& job_;
  bool schedule_given_, virtual_given_;
};

}  // namespace mmoe
