#pragma once
// Measured records beside the work that the model says they did: the input of the fit.

#include <vector>

#include "sim/calibration/fit.h"
#include "sim/throughput/operations.h"
#include "sim/throughput/roofline.h"

namespace mmoe {

enum class LayerKind { kNone, kDense, kMoe };

// All pieces of one operation in one phase of one kind of layer at one k. Layers of a kind have equal shapes, so their
// records measure the same thing.
struct WorkGroup {
  size_t job = 0;
  Operation operation = Operation::kNorm;
  Phase phase = Phase::kForward;
  LayerKind kind = LayerKind::kNone;
  int k = 0;
  std::vector<OperationCost> pieces;
};

// One operation's time: the median over the layers of its kind.
struct OperationSample {
  size_t group = 0;  // index into FitSamples::groups
  double seconds = 0;
  double noise = 0;   // standard deviation of log(seconds)
  double weight = 0;  // share of its job's measured time, mean 1 within a job
  int64_t records = 0;
  bool held_out = false;
};

// One step's time and peak.
struct StepSample {
  size_t job = 0;
  std::vector<std::pair<size_t, double>> groups;  // index into FitSamples::groups, and how often it runs
  double seconds = 0;                             // 0: not measured
  double noise = 0;
  double peak_bytes = 0;
  double predicted_peak_bytes = 0;  // with framework overhead 0; 0: not predicted
  bool held_out = false;
};

struct FitSamples {
  std::vector<const Job*> jobs;  // of all profiles, in order
  std::vector<WorkGroup> groups;
  std::vector<OperationSample> operations;
  std::vector<StepSample> steps;
  std::vector<bool> job_held_out;
  std::vector<std::string> held_out;  // in words
  int64_t ignored_records = 0;
};

// Standard deviation of the logarithm of a timing's median.
double log_noise(const Timing& timing);

// Matches records with work and chooses what is held out. Throws ConfigError naming file and key when a record does not
// fit its job. The profiles must outlive the samples.
FitSamples collect_samples(const std::vector<ProfiledJobs>& profiles, const FitOptions& options);

// Seconds of each group under a calibration.
std::vector<double> group_seconds(const FitSamples& samples, const Calibration& calibration);

// Seconds of a step from the seconds of its groups.
double step_sample_seconds(const FitSamples& samples, const StepSample& step, const std::vector<double>& groups,
                           const Calibration& calibration);

}  // namespace mmoe
