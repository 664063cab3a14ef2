#pragma once
// Predicts every run of a table and compares.

#include "sim/framework/framework.h"
#include "sim/validation/measured_run.h"
#include "sim/validation/score.h"

namespace mmoe {

// Whether a framework's fitted speed is used, or the same uncalibrated values for all.
enum class Speed { kFitted, kRaw };

// What the model says about a run. Intervals are 90 %.
struct RunPrediction {
  double step_seconds = 0, mfu = 0;
  double static_bytes = 0, peak_allocated_bytes = 0, peak_reserved_bytes = 0;
  double fit_probability = 0;
  double largest_reserved_bytes = 0;  // of all ranks, whichever the measurement is of
};
RunPrediction predict_run(const MeasuredRun& run, const Framework& framework);

// Model FLOPs of a step as a source counts them: forward and backward, no recomputation.
Flops reported_flops(const Job& job, FlopsConvention convention);

// Rows that cannot be modelled are listed with the reason, none is left out. `framework_file` replaces the frameworks
// that rows name; empty: none.
ValidationReport validate_table(const CsvTable& table, const std::string& framework_file = "",
                                Speed speed = Speed::kFitted);

}  // namespace mmoe
