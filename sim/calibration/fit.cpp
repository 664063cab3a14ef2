#include "sim/calibration/fit.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <set>
#include <unsupported/Eigen/NonLinearOptimization>
#include <unsupported/Eigen/NumericalDiff>

#include "sim/calibration/links.h"
#include "sim/calibration/parameters.h"
#include "sim/calibration/robust.h"
#include "sim/calibration/samples.h"
#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kStepNoise = 0.03;  // least standard deviation of log(step seconds)
constexpr double kLeastPeakSpread = 1e-3;

// The free parameters, on their unbounded scale, and the residuals of everything that is fitted.
class Problem {
 public:
  using Scalar = double;
  using InputType = Eigen::VectorXd;
  using ValueType = Eigen::VectorXd;
  using JacobianType = Eigen::MatrixXd;
  enum { InputsAtCompileTime = Eigen::Dynamic, ValuesAtCompileTime = Eigen::Dynamic };

  Problem(const FitSamples& samples, const Calibration& start) : samples_(samples), calibration_(start) {
    std::set<Precision> precisions;
    for (size_t job = 0; job < samples.jobs.size(); ++job) {
      if (!samples.job_held_out[job]) precisions.insert(samples.jobs[job]->training.precision);
    }
    for (const ParameterDefinition& definition : kTimeParameters) {
      if (definition.scope == ParameterScope::kDevice) {
        add_free(std::string(definition.name));
        continue;
      }
      for (const Precision precision : precisions) {
        CalibrationParameter own = calibration_.parameter(definition.name, precision);
        own.name = std::string(definition.name) + "." + name_of(precision);
        if (calibration_.find(own.name) == nullptr) calibration_.parameters.push_back(own);
        add_free(own.name);
      }
    }
    for (const OperationSample& sample : samples.operations) num_operations_ += sample.held_out ? 0 : 1;
    for (const StepSample& step : samples.steps) num_steps_ += !step.held_out && step.seconds > 0 ? 1 : 0;
    // Operations and steps have the same say in all, however many there are of each.
    if (num_operations_ > 0 && num_steps_ > 0) {
      step_weight_ = std::sqrt(std::max(1.0, static_cast<double>(num_operations_) / num_steps_));
    }
  }

  int inputs() const { return static_cast<int>(names_.size()); }
  int data_rows() const { return num_operations_ + num_steps_; }
  int values() const { return data_rows() + inputs(); }
  const std::vector<std::string>& names() const { return names_; }
  const Eigen::VectorXd& start() const { return prior_; }

  int operator()(const Eigen::VectorXd& u, Eigen::VectorXd& residuals) const {
    const Calibration calibration = at(u);
    const std::vector<double> groups = group_seconds(samples_, calibration);
    int row = 0;
    for (const OperationSample& sample : samples_.operations) {
      if (sample.held_out) continue;
      const double error = std::log(groups[sample.group] / sample.seconds);
      residuals[row++] = robust(std::sqrt(sample.weight) * error / sample.noise);
    }
    for (const StepSample& step : samples_.steps) {
      if (step.held_out || step.seconds <= 0) continue;
      const double error = std::log(step_sample_seconds(samples_, step, groups, calibration) / step.seconds);
      residuals[row++] = step_weight_ * robust(error / std::max(kStepNoise, step.noise));
    }
    for (int i = 0; i < inputs(); ++i) residuals[row++] = (u[i] - prior_[i]) / prior_error_[i];
    return 0;
  }

  Calibration at(const Eigen::VectorXd& u) const {
    Calibration calibration = calibration_;
    for (int i = 0; i < inputs(); ++i) {
      CalibrationParameter* parameter = calibration.find(names_[static_cast<size_t>(i)]);
      parameter->value = from_unbounded(u[i], parameter->low, parameter->high);
    }
    return calibration;
  }

 private:
  void add_free(const std::string& name) {
    const CalibrationParameter& parameter = *calibration_.find(name);
    names_.push_back(name);
    const auto n = static_cast<Eigen::Index>(names_.size());
    prior_.conservativeResize(n);
    prior_error_.conservativeResize(n);
    prior_[n - 1] = to_unbounded(parameter.value, parameter.low, parameter.high);
    prior_error_[n - 1] = std::max(1e-3, unbounded_error(parameter));
  }

  const FitSamples& samples_;
  Calibration calibration_;
  std::vector<std::string> names_;
  Eigen::VectorXd prior_, prior_error_;
  int num_operations_ = 0, num_steps_ = 0;
  double step_weight_ = 1;
};

// Covariance of the free parameters by the sandwich estimator (White 1980, doi:10.2307/1912934): it stays right when
// the weights are not the inverse variances. Prior rows count with the variance that they state.
Eigen::MatrixXd sandwich_covariance(const Problem& problem, const Eigen::MatrixXd& jacobian,
                                    const Eigen::VectorXd& residuals) {
  const Eigen::MatrixXd bread =
      (jacobian.transpose() * jacobian).ldlt().solve(Eigen::MatrixXd::Identity(problem.inputs(), problem.inputs()));
  const double rows = problem.data_rows();
  const double small_sample = rows / std::max(1.0, rows - problem.inputs());
  Eigen::VectorXd variance = Eigen::VectorXd::Ones(problem.values());
  variance.head(problem.data_rows()) = small_sample * residuals.head(problem.data_rows()).cwiseAbs2();
  const Eigen::MatrixXd meat = jacobian.transpose() * variance.asDiagonal() * jacobian;
  const Eigen::MatrixXd covariance = bread * meat * bread;
  return (covariance + covariance.transpose()) / 2;
}

// Takes over the peaks that profiles measured: the best of each, since a peak is a roof.
void set_measured_peaks(const std::vector<ProfiledJobs>& profiles, Calibration& calibration) {
  std::map<std::string, double> peaks;
  for (const ProfiledJobs& profile : profiles) {
    const MachinePeaks& measured = profile.profile.peaks;
    if (measured.stream_bandwidth.value > 0) {
      double& peak = peaks[std::string(kStreamBandwidth)];
      peak = std::max(peak, measured.stream_bandwidth.value);
    }
    for (const auto& [precision, rate] : measured.matmul_rate) {
      double& peak = peaks[std::string(kMatmulPeak) + "." + precision];
      peak = std::max(peak, rate.value);
    }
  }
  for (const auto& [name, peak] : peaks) {
    const CalibrationParameter parameter = {name,
                                            peak,
                                            0,
                                            peak / 10,
                                            peak * 10,
                                            name == kStreamBandwidth ? "bytes/s" : "FLOP/s",
                                            "measured by the profile"};
    if (CalibrationParameter* found = calibration.find(name)) {
      *found = parameter;
    } else {
      calibration.parameters.push_back(parameter);
    }
  }
}

bool has_peak(const StepSample& step) { return step.peak_bytes > 0 && step.predicted_peak_bytes > 0; }

// The constant that allocated peaks exceed the predicted bytes by.
void fit_framework_overhead(const FitSamples& samples, Calibration& calibration) {
  std::vector<double> differences, deviations, errors;
  for (const StepSample& step : samples.steps) {
    if (!step.held_out && has_peak(step)) differences.push_back(step.peak_bytes - step.predicted_peak_bytes);
  }
  if (differences.empty()) return;
  CalibrationParameter& overhead = *calibration.find(kFrameworkOverhead.name);
  const double center = median(differences);
  overhead.value = std::clamp(center, overhead.low, overhead.high);
  for (const double difference : differences) deviations.push_back(std::abs(difference - center));
  // 1.4826 MAD is the standard deviation of normal data; the median's own error is 1.2533 times the mean's.
  overhead.standard_error = 1.2533 * 1.4826 * median(deviations) / std::sqrt(static_cast<double>(differences.size()));
  overhead.note = "median of measured less predicted peak over " + std::to_string(differences.size()) + " steps";
  for (const StepSample& step : samples.steps) {
    if (!step.held_out && has_peak(step)) {
      errors.push_back(std::log((step.predicted_peak_bytes + overhead.value) / step.peak_bytes));
    }
  }
  calibration.peak_bytes_spread = std::max(kLeastPeakSpread, root_mean_square(errors));
}

// Sizes of the logarithmic errors of time on the fitted or on the held-out records.
struct TimeErrors {
  std::vector<double> operations, steps;
};

TimeErrors time_errors(const FitSamples& samples, const Calibration& calibration, bool held_out) {
  const std::vector<double> groups = group_seconds(samples, calibration);
  TimeErrors errors;
  for (const OperationSample& sample : samples.operations) {
    if (sample.held_out == held_out) errors.operations.push_back(std::log(groups[sample.group] / sample.seconds));
  }
  for (const StepSample& step : samples.steps) {
    if (step.held_out != held_out || step.seconds <= 0) continue;
    errors.steps.push_back(std::log(step_sample_seconds(samples, step, groups, calibration) / step.seconds));
  }
  return errors;
}

// What parameters leave unexplained on the fitted records.
void set_time_spreads(const FitSamples& samples, int free_parameters, Calibration& calibration) {
  const TimeErrors errors = time_errors(samples, calibration, false);
  const double rows = static_cast<double>(errors.operations.size() + errors.steps.size());
  const double small_sample = std::sqrt(rows / std::max(1.0, rows - free_parameters));
  if (!errors.operations.empty()) {
    calibration.operation_spread = std::max(kLeastSpread, small_sample * root_mean_square(errors.operations));
  }
  if (!errors.steps.empty()) {
    calibration.step_spread = std::max(kLeastSpread, small_sample * root_mean_square(errors.steps));
  }
}

// Shapes that were not fitted lie further off: what they showed widens the intervals of later predictions.
void widen_spreads(const FitSamples& samples, Calibration& calibration) {
  const TimeErrors errors = time_errors(samples, calibration, true);
  calibration.operation_spread = std::max(calibration.operation_spread, root_mean_square(errors.operations));
  calibration.step_spread = std::max(calibration.step_spread, root_mean_square(errors.steps));
}

// Errors of a calibration on the held-out or on the fitted records.
std::map<std::string, ErrorSummary> errors_of(const FitSamples& samples, const Calibration& calibration,
                                              bool held_out) {
  std::map<std::string, std::vector<MeasuredPrediction>> predictions;
  const std::vector<double> groups = group_seconds(samples, calibration);
  for (const OperationSample& sample : samples.operations) {
    if (sample.held_out != held_out) continue;
    const WorkGroup& group = samples.groups[sample.group];
    const Job& job = *samples.jobs[group.job];
    const auto predict = [&](const Calibration& moved) {
      const RooflineParameters parameters = roofline_parameters(moved, job.hardware, job.training.precision);
      double seconds = 0;
      for (const OperationCost& piece : group.pieces) seconds += operation_seconds(piece, parameters).value;
      return seconds;
    };
    predictions["operation_seconds"].push_back(
        {sample.seconds, groups[sample.group],
         prediction_interval(calibration, predict, calibration.operation_spread)});
  }
  for (const StepSample& step : samples.steps) {
    if (step.held_out != held_out) continue;
    if (step.seconds > 0) {
      const auto predict = [&](const Calibration& moved) {
        return step_sample_seconds(samples, step, group_seconds(samples, moved), moved);
      };
      predictions["step_seconds"].push_back({step.seconds, step_sample_seconds(samples, step, groups, calibration),
                                             prediction_interval(calibration, predict, calibration.step_spread)});
    }
    if (has_peak(step)) {
      const auto predict = [&](const Calibration& moved) {
        return step.predicted_peak_bytes + moved.framework_overhead().value;
      };
      predictions["peak_allocated_bytes"].push_back(
          {step.peak_bytes, predict(calibration),
           prediction_interval(calibration, predict, calibration.peak_bytes_spread)});
    }
  }
  std::map<std::string, ErrorSummary> errors;
  for (const auto& [quantity, list] : predictions) errors[quantity] = summarize_errors(list);
  return errors;
}

// What the fit rests on, for the calibration's source and its parameters' notes.
std::string describe(const std::vector<ProfiledJobs>& profiles, const FitSamples& samples, const FitResult& result) {
  const ProfileMachine& machine = profiles.front().profile.machine;
  const auto held_out_jobs = std::count(samples.job_held_out.begin(), samples.job_held_out.end(), true);
  const size_t fitted_jobs = samples.jobs.size() - static_cast<size_t>(held_out_jobs);
  return std::to_string(result.fitted_records) + " records of " + std::to_string(fitted_jobs) + " job" +
         (fitted_jobs == 1 ? "" : "s") + " on " + machine.processor + ", " + std::to_string(machine.threads) +
         " threads";
}

void check_devices(const std::vector<ProfiledJobs>& profiles) {
  if (profiles.empty()) throw ConfigError("no profile given; measure one with mmoe profile");
  const std::string& device = profiles.front().profile.machine.device;
  for (const ProfiledJobs& profile : profiles) {
    if (profile.profile.machine.device != device) {
      throw ConfigError(profile.where + ": machine.device = " + profile.profile.machine.device + " differs from " +
                        device + " in " + profiles.front().where + "; calibrate one device at a time");
    }
  }
}

void count_records(const FitSamples& samples, FitResult& result) {
  for (const OperationSample& sample : samples.operations) {
    (sample.held_out ? result.held_out_records : result.fitted_records) += sample.records;
  }
  for (const StepSample& step : samples.steps) ++(step.held_out ? result.held_out_records : result.fitted_records);
}

// Operations and steps. `profiles` hold some.
void fit_device(const std::vector<ProfiledJobs>& profiles, const FitOptions& options, FitResult& result) {
  const FitSamples samples = collect_samples(profiles, options);
  result.held_out = samples.held_out;
  result.ignored_records = samples.ignored_records;
  count_records(samples, result);
  if (result.fitted_records == 0) return;
  result.before = errors_of(samples, result.calibration, true);

  Calibration start = result.calibration;
  set_measured_peaks(profiles, start);
  Problem problem(samples, start);
  Eigen::VectorXd u = problem.start();
  Eigen::NumericalDiff<Problem, Eigen::Central> differentiable(problem, 1e-10);
  Eigen::LevenbergMarquardt<Eigen::NumericalDiff<Problem, Eigen::Central>> solver(differentiable);
  solver.parameters.maxfev = options.max_evaluations;
  solver.parameters.xtol = solver.parameters.ftol = 1e-10;
  solver.minimize(u);

  Eigen::VectorXd residuals(problem.values());
  Eigen::MatrixXd jacobian(problem.values(), problem.inputs());
  problem(u, residuals);
  differentiable.df(u, jacobian);
  const Eigen::MatrixXd covariance = sandwich_covariance(problem, jacobian, residuals);

  Calibration& calibration = result.calibration;
  calibration = problem.at(u);
  const std::string basis = describe(profiles, samples, result);
  calibration.source = "fitted to " + basis;
  calibration.covariance_names = problem.names();
  for (int i = 0; i < problem.inputs(); ++i) {
    for (int j = 0; j < problem.inputs(); ++j) calibration.covariance.push_back(covariance(i, j));
    CalibrationParameter& parameter = *calibration.find(problem.names()[static_cast<size_t>(i)]);
    // unbounded_error is the standard error over the slope of the bounded value: its inverse gives the slope.
    parameter.standard_error = 1;
    parameter.standard_error = std::sqrt(std::max(0.0, covariance(i, i))) / unbounded_error(parameter);
    parameter.note = "fitted to " + basis;
  }
  set_time_spreads(samples, problem.inputs(), calibration);
  fit_framework_overhead(samples, calibration);
  result.after = errors_of(samples, calibration, true);
  result.fitted = errors_of(samples, calibration, false);
  widen_spreads(samples, calibration);  // after the coverage has been stated
}

void fit_network(const std::vector<ProfiledJobs>& profiles, const FitOptions& options, FitResult& result) {
  LinkFit links = fit_links(profiles, options.hold_out, result.calibration);
  result.fitted_records += links.fitted_records;
  result.held_out_records += links.held_out_records;
  result.not_fitted = std::move(links.not_fitted);
  if (!measured_links(result.calibration).empty()) {
    result.calibration.source += "; links fitted to " + std::to_string(links.fitted_records) + " collectives";
  }
  result.held_out.insert(result.held_out.end(), links.held_out.begin(), links.held_out.end());
  const auto add = [](const std::vector<MeasuredPrediction>& list, std::map<std::string, ErrorSummary>& errors) {
    if (!list.empty()) errors["collective_seconds"] = summarize_errors(list);
  };
  add(links.before, result.before);
  add(links.after, result.after);
  add(links.fitted, result.fitted);
}

}  // namespace

ProfiledJobs load_profiled_jobs(const std::string& path) {
  ProfiledJobs result;
  result.profile = load_profile(path);
  result.where = path;
  for (size_t i = 0; i < result.profile.jobs.size(); ++i) {
    result.jobs.push_back(parse_job(result.profile.jobs[i], path + ": jobs[" + std::to_string(i) + "]", ""));
  }
  return result;
}

FitResult fit_calibration(const std::vector<ProfiledJobs>& profiles, const Calibration& initial,
                          const FitOptions& options) {
  check_devices(profiles);
  FitResult result;
  result.calibration = initial;
  result.calibration.device = profiles.front().profile.machine.device;
  std::vector<ProfiledJobs> of_device;
  std::copy_if(profiles.begin(), profiles.end(), std::back_inserter(of_device),
               [](const ProfiledJobs& one) { return !one.profile.operations.empty() || !one.profile.steps.empty(); });
  if (!of_device.empty()) fit_device(of_device, options, result);
  fit_network(profiles, options, result);
  if (result.calibration.covariance_names.empty()) {
    throw ConfigError(profiles.front().where + ": holds no record that can be fitted (" +
                      (result.not_fitted.empty()
                           ? "operations, steps and collectives are empty or unknown); measure again with mmoe profile"
                           : result.not_fitted.front() + ")"));
  }
  return result;
}

nlohmann::json to_json(const FitResult& result) {
  return {
      {"not_fitted", result.not_fitted},
      {"before", result.before},
      {"after", result.after},
      {"fitted", result.fitted},
      {"held_out", result.held_out},
      {"records",
       {{"fitted", result.fitted_records}, {"held_out", result.held_out_records}, {"ignored", result.ignored_records}}},
      {"calibration", to_json(result.calibration)}};
}

}  // namespace mmoe
