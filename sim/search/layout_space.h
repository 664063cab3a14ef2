#pragma once
// Which layouts a job leaves open, and which of them are valid.

#include <string>
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
  Offload offload = Offload::kNone;
  std::size_t without_offload = 0;  // its place in LayoutSpace::shapes() but for the offload
};

// How a pipeline of some ranks may run.
struct ScheduleChoice {
  PipelineSchedule schedule = PipelineSchedule::kOneForwardOneBackward;
  int64_t virtual_pipeline = 1;
  bool needs_cut = false;  // chunks are of equal length only where embedding or loss count as layers
  bool operator==(const ScheduleChoice&) const = default;
};

class LayoutSpace {
 public:
  // Keys of Job::given have one value each, all others every value that the model and the devices allow, of schedules,
  // stages and kinds those that the framework runs. Both must outlive the space.
  LayoutSpace(const Job& job, const Framework& framework);

  std::vector<int64_t> tensors, contexts, experts, expert_tensors, micro_batches, pipelines, zero_stages;
  std::vector<Recompute> recomputes;
  std::vector<ExpertSaving> expert_savings;
  std::vector<bool> sequences;
  std::vector<DispatcherKind> dispatchers;
  std::vector<ContextKind> context_kinds;
  std::vector<bool> overlaps;        // each that is not the first is of use only where those before it do not fit
  std::vector<Offload> offloads;     // what the job would have without a search first
  std::vector<int64_t> zero_groups;  // 0 (all replicas), then falling powers of two and what divides a node's devices
  bool recomputed_layers_are_searched = false;  // of recompute "full": the fewest that fit, and all

  bool cuts_are_open() const { return stages_are_searched_; }
  bool groups_or_offload_are_open() const { return zero_groups.size() > 1 || offloads.size() > 1; }

  std::vector<LayoutShape> shapes() const;
  std::vector<ScheduleChoice> schedules(int64_t pipeline) const;
  // What parallelism.stage_layers may be; none where the job's own is for another number of chunks. To choose from are
  // what the framework does by itself (empty), and the even cuts of the layers together with none or one more for the
  // embedding, none to two more for the loss, which the first and the last chunk then spare, the longer chunks first or
  // last, none of no layer.
  // Source: Megatron-Core's account_for_embedding_in_pipeline_split and account_for_loss_in_pipeline_split.
  std::vector<std::vector<int64_t>> stage_cuts(int64_t pipeline, const ScheduleChoice& choice) const;
  // Whether the job's groups divide its replicas, those that share experts too; of several groups to choose from,
  // whether they are another choice than all replicas.
  bool has_valid_groups(const Job& job) const;
  // The same; and, to choose from, only ranks that share the optimiser's states offload them, as ZeRO-Offload's do.
  bool has_valid_sharding(const Job& job) const;
  void apply(const LayoutShape& shape, Job& job) const;

  // Why the job's layout is impossible, or what the framework lacks that the job does not ask for; null where it is
  // possible.
  const char* why_not(const Job& job) const;

 private:
  std::vector<std::pair<std::size_t, ExpertSaving>> recomputations() const;
  std::vector<int64_t> chunks_of_equal_length(int64_t pipeline, int64_t most_more) const;
  std::vector<ScheduleChoice> interleaved(int64_t pipeline) const;

  const Job& job_;
  const Framework& framework_;
  bool schedule_given_, virtual_given_, pipelines_embeddings_, tensor_needs_sequence_, stages_are_searched_,
      activations_are_offloaded_alone_;
  std::vector<SplitDegree> missing_;  // what the framework lacks and the job does not name
};

}  // namespace mmoe
