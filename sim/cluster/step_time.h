#pragma once
// Time of one optimiser step on a cluster: the pipeline's schedule, synchronisation of gradients, optimiser.

#include <vector>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/layer_tensors.h"
#include "sim/cluster/layer_time.h"
#include "sim/cluster/stages.h"
#include "sim/schedule/closed_form.h"

namespace mmoe {

// One micro-batch through one chunk: what the device takes, and what launching it takes the host.
struct ChunkWork {
  ChunkSeconds device{};
  double host = 0;
  double ends = 0;            // of the device: embedding and head, which launch next to nothing
  SecondsByCause by_cause{};  // of the device, forward and backward together
  // `recomputed` of the `count` layers run forward again where training.recompute_num_layers says how many do.
  void add(const LayerSeconds& layer, double count, double recomputed);
  void add(const LayerSeconds& layer, double count) { add(layer, count, count); }
};

// Launches run ahead of the device over a whole micro-batch, or where hidden_by_head says so over its layers alone;
// where the two are about as fast, the queue runs dry now and then: a p-norm of both.
ChunkSeconds joined(const ChunkWork& work, const TimeParameters& time);

// What one micro-batch takes on each chunk [rank * v + chunk], all MoE layers at k.
struct StageSeconds {
  std::vector<ChunkSeconds> chunks;
  std::vector<SecondsByCause> by_cause;  // the same times, forward and backward together
};

// Parts of a step; they add up to it.
struct ClusterStepTime {
  SecondsByCause micro_batches{};  // the slowest stage, all micro-batches
  double bubble = 0;               // waiting for other stages, sends between them
  double data_transfers = 0;       // gradients (a shared embedding's too) and sharded weights, what is not hidden
  double optimizer = 0;
  double stragglers = 0;
  double fixed = 0;
  double step() const { return total(micro_batches) + bubble + data_transfers + optimizer + stragglers + fixed; }
};

// Transfers of weights of one class between the ranks that hold them: once their gradients summed over the sharded
// copies, over all ranks, and their values gathered and their gradients scattered over the ranks of a copy.
struct SyncSeconds {
  double copies = 0, reduce = 0, gather = 0, scatter = 0;
};

// What data-parallel transfers and the update are made of, whatever the ZeRO stage.
struct StepSync {
  struct Stage {
    RankWeights weights;
    SyncSeconds dense, expert;
  };
  int64_t copies = 1;         // of what is sharded
  double gathered_bytes = 0;  // of a weight
  double dense_shards = 1, expert_shards = 1;
  double latency = 0, unhidden = 0;
  std::vector<Stage> stages = {};  // without those that another one's weights cover
};

PipelineShape pipeline_shape(const Job& job);

// Of one step's passes. In closed form; the V-shaped zero-bubble schedule, which has none, is played.
Seconds pipeline_seconds(const PipelineShape& shape, const std::vector<ChunkSeconds>& chunks,
                         const Transfers& transfers);

// The times of jobs that share all but their pipeline, their schedule, their sharding and how many layers run forward
// again: layers are timed once. Both arguments must outlive the model; `job` may change pipeline, virtual_pipeline,
// schedule, zero_stage, zero_group, overlap and recompute_num_layers between calls.
class StepModel {
 public:
  // All MoE layers at k where a call names no other; `load`: of the busiest expert-parallel rank.
  StepModel(const Job& job, const Framework& framework, double k, const LoadByK& load = {});

  // Embedding, dense layers, head: what does not depend on the draws.
  ChunkWork fixed_work(const StageChunk& chunk) const;
  LayerSeconds moe_layer(double k) const;
  ChunkWork work(const StageChunk& chunk) const;
  StageSeconds stages(const PipelineStages& stages) const;

  // Sends between neighbouring stages, one way.
  Transfers transfers() const;
  Seconds transfer() const;

  // What follows the pipeline, once a step: the worst rank's transfers and optimiser, and what every step adds.
  // `backward` is what transfers can hide behind.
  ClusterStepTime tail(const StepSync& sync, double pipeline_seconds, double backward) const;
  // Seconds of a step that no transfer and no update makes longer: no step of this pipeline time is shorter.
  double least_step(double pipeline_seconds) const;
  StepSync sync(const PipelineStages& stages) const;
  // Whether it still is that of the job, of which only zero_stage and zero_group have changed.
  bool holds(const StepSync& sync) const {
    return sync.copies == sharded_copies() && sync.gathered_bytes == gathered_bytes();
  }

  ClusterStepTime step(const PipelineStages& stages) const;

 private:
  int64_t sharded_copies() const;
  double gathered_bytes() const;
  double fixed() const;
  double straggler_share() const;
  LayerSeconds with_offload(LayerSeconds layer, LayerKind kind, double k) const;

  const Job& job_;
  const Framework& framework_;
  LoadByK load_;
  LayerTimes layers_;
  WeightPieces pieces_;
  LayerSeconds dense_, moe_, embedding_, head_, multi_token_;
};

// The step with the same k in all MoE layers of all micro-batches.
ClusterStepTime cluster_step_time(const Job& job, const Framework& framework, double k, const LoadByK& load = {});

}  // namespace mmoe
