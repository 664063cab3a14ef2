#pragma once
// A job's throughput under its elastic law: step time, tokens a second, MFU.

#include <map>
#include <string>

#include "sim/elastic/value_law.h"
#include "sim/throughput/step_time.h"

namespace mmoe {

// Expectations are over the draws of k. Sampling `top_p` draws no k: its numbers are those of every token at k_max,
// which bounds them.
struct Throughput {
  Seconds step;            // mean
  Interval step_interval;  // 90 %, of the mean
  Summary step_law;        // seconds, over the draws
  double tokens_per_second_per_device = 0;
  double model_flops_utilization = 0;
  FlopsPerSecond model_flops_per_device;
  FlopsPerSecond device_peak;                // what MFU divides by
  std::map<std::string, Seconds> breakdown;  // of the mean step, by operation name and "overhead"
};

Throughput predict_throughput(const Job& job, const Calibration& calibration);

// Law of the seconds of one step over the draws of k.
Summary step_seconds_law(const Job& job, const StepTimeModel& model);

}  // namespace mmoe
