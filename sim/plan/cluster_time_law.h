#pragma once
// The law of a cluster's step time over the draws of k: schedules played with drawn times.

#include "sim/cluster/step_time.h"
#include "sim/elastic/value_law.h"

namespace mmoe {

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
