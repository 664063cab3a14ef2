#pragma once
// The law of a cluster's step time over the draws of k: schedules played with drawn times.

#include <vector>

#include "sim/cluster/step_time.h"
#include "sim/elastic/value_law.h"
#include "sim/schedule/timeline.h"

namespace mmoe {

// Seconds of steps whose draws are given.
class DrawnStepTimes {
 public:
  DrawnStepTimes(const Job& job, const Framework& framework, const LoadByK& load);

  const ClusterStepTime& typical() const { return typical_; }  // all MoE layers at the mean k
  // One replica's schedule with the k of its micro-batches, [micro-batch][MoE layer].
  double pipeline_seconds(const std::vector<std::vector<int>>& k) const;
  // What follows it, the same in every step.
  double tail() const;

 private:
  // What a chunk takes that does not depend on the draw, and its MoE layers.
  struct Chunk {
    ChunkWork fixed;
    int64_t first_moe_layer, num_moe_layers, num_recomputed;
  };
  TimeParameters time_;
  ClusterStepTime typical_;
  PipelinePasses passes_;
  Transfers transfers_;
  std::vector<Chunk> chunks_;       // [rank * v + chunk]
  std::vector<LayerSeconds> by_k_;  // [k - k_min]: one MoE layer
  int k_min_;
};

// Seconds over the draws. Sampled: `standard_error` is that of the mean.
struct ClusterTimeLaw {
  ValueLaw step;                  // of a whole step, the slowest data-parallel replica's
  double standard_error = 0;      // seconds; 0: nothing is drawn, the law is exact
  ClusterStepTime typical;        // parts of the step at the mean k; its sum differs from the mean where stages wait
  double straggling_seconds = 0;  // mean of the slowest replica less mean of one replica
};

// `num_pipelines` schedules are drawn. Ranks of a replica share its draws, replicas draw on their own unless
// elastic.share says otherwise, so a step lasts as long as the slowest of data-parallel replicas: the maximum of
// independent copies of one replica's law.
ClusterTimeLaw cluster_time_law(const Job& job, const Framework& framework, const LoadByK& load,
                                int64_t num_pipelines = 400);

// Mean of k over layers and draws: what the law allows, or the fixed k.
double mean_k(const Job& job);

}  // namespace mmoe
