#include "sim/calibration/samples.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Repeatability of a median even where the repetitions agree: clock changes, memory placement.
constexpr double kLeastNoise = 0.05;
constexpr double kNormalP90 = 1.2815515655446004;  // 90th percentile of the standard normal

bool depends_on_k(Operation operation) { return operation == Operation::kRouter || operation == Operation::kExperts; }

using GroupKey = std::tuple<size_t, Operation, Phase, LayerKind, int>;

// Work groups, created when first asked for.
class Groups {
 public:
  explicit Groups(FitSamples& samples) : samples_(samples) {}

  size_t index(const GroupKey& key) {
    const auto [found, is_new] = index_.try_emplace(key, samples_.groups.size());
    if (is_new) {
      const auto& [job, operation, phase, kind, k] = key;
      samples_.groups.push_back({job, operation, phase, kind, k, {}});
      for (const OperationCost& cost : work(job, kind, k)) {
        if (cost.operation == operation && cost.phase == phase) samples_.groups.back().pieces.push_back(cost);
      }
    }
    return found->second;
  }

  // The groups that one layer (or what belongs to no layer) consists of.
  std::vector<size_t> all_of(size_t job, LayerKind kind, int k) {
    std::set<std::pair<Operation, Phase>> parts;
    for (const OperationCost& cost : work(job, kind, k)) {
      if (cost.phase != Phase::kUpdate) parts.emplace(cost.operation, cost.phase);
    }
    std::vector<size_t> groups;
    for (const auto& [operation, phase] : parts) {
      groups.push_back(index({job, operation, phase, kind, depends_on_k(operation) ? k : 0}));
    }
    return groups;
  }

  std::vector<size_t> update_of(size_t job) {
    std::set<Operation> parts;
    for (const OperationCost& cost : update_operations(*samples_.jobs[job])) parts.insert(cost.operation);
    std::vector<size_t> groups;
    for (const Operation operation : parts)
      groups.push_back(index({job, operation, Phase::kUpdate, LayerKind::kNone, 0}));
    return groups;
  }

 private:
  // Pieces of one layer of a kind; of no layer: with the update.
  std::vector<OperationCost> work(size_t job_index, LayerKind kind, int k) const {
    const Job& job = *samples_.jobs[job_index];
    if (kind != LayerKind::kNone) {
      const int64_t layer = kind == LayerKind::kMoe ? job.model.num_layers - 1 : 0;
      return layer_operations(job, static_cast<int>(layer), std::max(k, 1));
    }
    std::vector<OperationCost> costs = layer_operations(job, -1, 0);
    const std::vector<OperationCost> update = update_operations(job);
    costs.insert(costs.end(), update.begin(), update.end());
    return costs;
  }

  FitSamples& samples_;
  std::map<GroupKey, size_t> index_;
};

[[noreturn]] void fail(const ProfiledJobs& profile, const char* list, size_t index, const std::string& what) {
  throw ConfigError(profile.where + ": " + list + "[" + std::to_string(index) + "]." + what);
}

// Which kind of layer a record belongs to; throws when its job has no such layer.
LayerKind kind_of(const ProfiledJobs& profile, size_t index, const Job& job) {
  const OperationRecord& record = profile.profile.operations[index];
  if (record.layer < 0) return LayerKind::kNone;
  if (record.layer >= job.model.num_layers) {
    fail(profile, "operations", index,
         "layer = " + std::to_string(record.layer) + " but its job has " + std::to_string(job.model.num_layers) +
             " layers; measure again with mmoe profile");
  }
  return job.model.is_moe_layer(record.layer) ? LayerKind::kMoe : LayerKind::kDense;
}

void add_operations(const ProfiledJobs& profile, size_t first_job, Groups& groups, FitSamples& samples) {
  struct Measured {
    std::vector<double> seconds, noise;
  };
  std::map<size_t, Measured> by_group;
  for (size_t i = 0; i < profile.profile.operations.size(); ++i) {
    const OperationRecord& record = profile.profile.operations[i];
    const Job& job = profile.jobs[static_cast<size_t>(record.job)];
    const std::optional<Operation> operation = operation_named(record.operation);
    const std::optional<Phase> phase = phase_named(record.phase);
    const LayerKind kind = kind_of(profile, i, job);
    if (!operation || !phase || record.seconds.median.value <= 0) {
      ++samples.ignored_records;
      continue;
    }
    const int k = depends_on_k(*operation) ? static_cast<int>(record.k) : 0;
    if (depends_on_k(*operation) && (record.k < 1 || record.k > job.model.num_experts)) {
      fail(profile, "operations", i,
           "k = " + std::to_string(record.k) + " but its job has " + std::to_string(job.model.num_experts) +
               " experts; measure again with mmoe profile");
    }
    const size_t group = groups.index({first_job + static_cast<size_t>(record.job), *operation, *phase, kind, k});
    if (samples.groups[group].pieces.empty()) {
      ++samples.ignored_records;
      continue;
    }
    by_group[group].seconds.push_back(record.seconds.median.value);
    by_group[group].noise.push_back(log_noise(record.seconds));
  }
  for (const auto& [group, measured] : by_group) {
    samples.operations.push_back({.group = group,
                                  .seconds = median(measured.seconds),
                                  .noise = median(measured.noise),
                                  .weight = 1,
                                  .records = static_cast<int64_t>(measured.seconds.size()),
                                  .held_out = false});
  }
}

void add_steps(const ProfiledJobs& profile, size_t first_job, Groups& groups, FitSamples& samples) {
  for (size_t i = 0; i < profile.profile.steps.size(); ++i) {
    const StepRecord& record = profile.profile.steps[i];
    const size_t job_index = first_job + static_cast<size_t>(record.job);
    const Job& job = *samples.jobs[job_index];
    std::map<size_t, double> times;
    const auto add = [&](const std::vector<size_t>& parts) {
      for (const size_t group : parts) times[group] += 1;
    };
    for (const std::vector<int>& draw : record.k_per_layer) {
      if (static_cast<int64_t>(draw.size()) != job.model.num_moe_layers()) {
        fail(profile, "steps", i,
             "k_per_layer has " + std::to_string(draw.size()) + " layers but its job has " +
                 std::to_string(job.model.num_moe_layers()) + " MoE layers; measure again with mmoe profile");
      }
      add(groups.all_of(job_index, LayerKind::kNone, 0));
      for (int64_t layer = 0; layer < job.model.num_layers - job.model.num_moe_layers(); ++layer) {
        add(groups.all_of(job_index, LayerKind::kDense, 0));
      }
      for (const int k : draw) {
        if (k < 1 || k > job.model.num_experts) {
          fail(profile, "steps", i,
               "k_per_layer holds k = " + std::to_string(k) + " but its job has " +
                   std::to_string(job.model.num_experts) + " experts; measure again with mmoe profile");
        }
        add(groups.all_of(job_index, LayerKind::kMoe, k));
      }
    }
    add(groups.update_of(job_index));
    StepSample step;
    step.job = job_index;
    step.groups.assign(times.begin(), times.end());
    step.seconds = record.seconds.median.value;
    step.noise = step.seconds > 0 ? log_noise(record.seconds) : kLeastNoise;
    step.peak_bytes = record.peak_allocated.value;
    step.predicted_peak_bytes = record.predicted_peak_allocated.value_or(Bytes{}).value;
    samples.steps.push_back(std::move(step));
  }
}

// An operation that takes a tenth of the time needs a tenth of the care.
void weigh_by_share(FitSamples& samples) {
  std::vector<double> total(samples.jobs.size()), count(samples.jobs.size());
  for (const OperationSample& sample : samples.operations) {
    total[samples.groups[sample.group].job] += sample.seconds;
    count[samples.groups[sample.group].job] += 1;
  }
  for (OperationSample& sample : samples.operations) {
    const size_t job = samples.groups[sample.group].job;
    sample.weight = std::clamp(sample.seconds / total[job] * count[job], 0.1, 10.0);
  }
}

void hold_out_jobs(FitSamples& samples) {
  std::map<Precision, int> fitted_of_precision;
  for (const Job* job : samples.jobs) ++fitted_of_precision[job->training.precision];
  const size_t jobs = samples.jobs.size();
  for (size_t job = 1; job < jobs; ++job) {
    int& fitted = fitted_of_precision[samples.jobs[job]->training.precision];
    if ((job % 3 == 2 || jobs == 2) && fitted > 1) {
      samples.job_held_out[job] = true;
      --fitted;
      samples.held_out.push_back("job " + std::to_string(job) + " of " + std::to_string(jobs));
    }
  }
  for (OperationSample& sample : samples.operations) {
    sample.held_out = samples.job_held_out[samples.groups[sample.group].job];
  }
  for (StepSample& step : samples.steps) step.held_out = samples.job_held_out[step.job];
}

void hold_out_records(FitSamples& samples) {
  bool operations = false, steps = false;
  for (OperationSample& sample : samples.operations) {
    const WorkGroup& group = samples.groups[sample.group];
    sample.held_out = depends_on_k(group.operation) && group.k % 3 == 2;
    operations = operations || sample.held_out;
  }
  for (size_t i = 2; i < samples.steps.size(); i += 3) samples.steps[i].held_out = steps = true;
  if (operations) samples.held_out.emplace_back("router and experts at k = 2, 5, 8, ...");
  if (steps) samples.held_out.emplace_back("every third step");
}

}  // namespace

double log_noise(const Timing& timing) {
  const double spread = (timing.p90 - timing.p10) / (timing.median * 2 * kNormalP90);
  return std::hypot(kLeastNoise, spread / std::sqrt(static_cast<double>(timing.repetitions)));
}

FitSamples collect_samples(const std::vector<ProfiledJobs>& profiles, const FitOptions& options) {
  FitSamples samples;
  for (const ProfiledJobs& profile : profiles) {
    MMOE_CHECK(profile.jobs.size() == profile.profile.jobs.size()) << profile.where;
    for (const Job& job : profile.jobs) samples.jobs.push_back(&job);
  }
  samples.job_held_out.assign(samples.jobs.size(), false);
  Groups groups(samples);
  size_t first_job = 0;
  for (const ProfiledJobs& profile : profiles) {
    add_operations(profile, first_job, groups, samples);
    add_steps(profile, first_job, groups, samples);
    first_job += profile.jobs.size();
  }
  weigh_by_share(samples);
  if (options.hold_out) {
    hold_out_jobs(samples);
    if (samples.held_out.empty()) hold_out_records(samples);
  }
  return samples;
}

std::vector<double> group_seconds(const FitSamples& samples, const Calibration& calibration) {
  std::map<Precision, RooflineParameters> parameters;
  std::vector<double> seconds(samples.groups.size());
  for (size_t i = 0; i < samples.groups.size(); ++i) {
    const WorkGroup& group = samples.groups[i];
    const Job& job = *samples.jobs[group.job];
    const Precision precision = job.training.precision;
    auto found = parameters.find(precision);
    if (found == parameters.end()) {
      found = parameters.emplace(precision, roofline_parameters(calibration, job.hardware, precision)).first;
    }
    for (const OperationCost& piece : group.pieces) seconds[i] += operation_seconds(piece, found->second).value;
  }
  return seconds;
}

double step_sample_seconds(const FitSamples& samples, const StepSample& step, const std::vector<double>& groups,
                           const Calibration& calibration) {
  double sum = 0;
  for (const auto& [group, times] : step.groups) sum += times * groups[group];
  const Precision precision = samples.jobs[step.job]->training.precision;
  return calibration.value("step_factor", precision) * sum + calibration.value("step_overhead", precision);
}

}  // namespace mmoe
