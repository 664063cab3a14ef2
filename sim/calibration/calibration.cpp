#include "sim/calibration/calibration.h"

#include <algorithm>
#include <cmath>

#include "sim/calibration/parameters.h"
#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kNormal90 =
    1.6448536269514722;  // 95th percentile of the standard normal: a 90 % interval's half-width

// A bounded value strictly inside its bounds, where the unbounded scale is finite.
double inside(double value, double low, double high) {
  const double margin = 1e-9 * (high - low);
  return std::clamp(value, low + margin, high - margin);
}

bool on_log_scale(double low) { return low > 0; }

// d value / d unbounded.
double slope(double value, double low, double high) {
  const double inner = inside(value, low, high);
  if (!on_log_scale(low)) return (inner - low) * (high - inner) / (high - low);
  const double range = std::log(high / low), fraction = std::log(inner / low) / range;
  return inner * range * fraction * (1 - fraction);
}

CalibrationParameter parameter_from(const ParameterDefinition& definition, const DeviceSpec& device) {
  const double value = device.is_cpu ? definition.cpu_value : definition.gpu_value;
  const double error = device.is_cpu ? definition.cpu_error : definition.gpu_error;
  return {std::string(definition.name),
          value,
          error,
          definition.low,
          definition.high,
          std::string(definition.unit),
          "not fitted: " + std::string(definition.meaning)};
}

}  // namespace

const CalibrationParameter* Calibration::find(std::string_view full_name) const {
  for (const CalibrationParameter& p : parameters) {
    if (p.name == full_name) return &p;
  }
  return nullptr;
}

CalibrationParameter* Calibration::find(std::string_view full_name) {
  return const_cast<CalibrationParameter*>(std::as_const(*this).find(full_name));
}

const CalibrationParameter& Calibration::parameter(std::string_view name, Precision precision) const {
  const CalibrationParameter* found = find(std::string(name) + "." + name_of(precision));
  if (found == nullptr) found = find(name);
  MMOE_CHECK(found != nullptr) << "calibration has no parameter " << name;
  return *found;
}

Bytes Calibration::framework_overhead() const {
  const CalibrationParameter* found = find(kFrameworkOverhead.name);
  MMOE_CHECK(found != nullptr) << "calibration has no " << kFrameworkOverhead.name;
  return Bytes{found->value};
}

double to_unbounded(double value, double low, double high) {
  const double inner = inside(value, low, high);
  const double fraction =
      on_log_scale(low) ? std::log(inner / low) / std::log(high / low) : (inner - low) / (high - low);
  return std::log(fraction / (1 - fraction));
}

double from_unbounded(double unbounded, double low, double high) {
  const double fraction = 1 / (1 + std::exp(-unbounded));
  return on_log_scale(low) ? low * std::pow(high / low, fraction) : low + (high - low) * fraction;
}

double unbounded_error(const CalibrationParameter& parameter) {
  const double per_unit = slope(parameter.value, parameter.low, parameter.high);
  return per_unit > 0 ? parameter.standard_error / per_unit : 0;
}

bool has_fitted_operations(const Calibration& calibration, Precision precision) {
  const std::string ending = "." + name_of(precision);
  return std::any_of(calibration.covariance_names.begin(), calibration.covariance_names.end(),
                     [&](const std::string& name) { return name.ends_with(ending); });
}

Calibration default_calibration(const DeviceSpec& device) {
  Calibration calibration;
  calibration.device = device.name;
  calibration.source = device.is_cpu ? "not calibrated: typical values of CPUs with AVX2 or AVX-512"
                                     : "not calibrated: typical values of data-centre GPUs";
  for (const ParameterDefinition& definition : kTimeParameters) {
    calibration.parameters.push_back(parameter_from(definition, device));
  }
  calibration.parameters.push_back(parameter_from(kFrameworkOverhead, device));
  // Large matrix products reach less of the dense peak on newer chips, whose power limit lies below it.
  struct GpuClass {
    std::string_view prefix;
    double gemm_efficiency;
  };
  for (const GpuClass& gpu : {GpuClass{"v100", 0.78}, GpuClass{"a100", 0.80}, GpuClass{"h", 0.72},
                              GpuClass{"b200", 0.68}, GpuClass{"gb", 0.68}, GpuClass{"mi", 0.55}}) {
    if (device.name.starts_with(gpu.prefix)) calibration.find("gemm_efficiency")->value = gpu.gemm_efficiency;
  }
  // Typical disagreement of an uncalibrated roofline with a measurement: a factor of 1.5 in time, 3 % in bytes; of
  // links of which only the datasheet is known: a factor of 2.
  calibration.operation_spread = std::log(1.5);
  calibration.step_spread = std::log(1.3);
  calibration.peak_bytes_spread = 0.03;
  calibration.collective_spread = std::log(2);
  return calibration;
}

Interval prediction_interval(const Calibration& calibration, const std::function<double(const Calibration&)>& predict,
                             double spread) {
  const double center = predict(calibration);
  if (!(center > 0)) return {center, center};
  // Each uncertain parameter's effect on the logarithm of the prediction, by central difference over its own error.
  const auto effect = [&](const CalibrationParameter& parameter) {
    const double error = unbounded_error(parameter);
    if (error <= 0) return 0.0;
    const double step = std::min(error, 0.25);
    const double u = to_unbounded(parameter.value, parameter.low, parameter.high);
    double logs[2];
    for (const int side : {0, 1}) {
      Calibration moved = calibration;
      moved.find(parameter.name)->value = from_unbounded(u + (side == 0 ? -step : step), parameter.low, parameter.high);
      logs[side] = std::log(predict(moved));
    }
    return (logs[1] - logs[0]) / (2 * step);
  };
  double variance = spread * spread;
  const size_t n = calibration.covariance_names.size();
  std::vector<double> gradient(n);
  for (size_t i = 0; i < n; ++i) {
    const CalibrationParameter* parameter = calibration.find(calibration.covariance_names[i]);
    MMOE_CHECK(parameter != nullptr) << calibration.covariance_names[i];
    gradient[i] = effect(*parameter);
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) variance += gradient[i] * gradient[j] * calibration.covariance[i * n + j];
  }
  for (const CalibrationParameter& parameter : calibration.parameters) {
    const auto& names = calibration.covariance_names;
    if (std::find(names.begin(), names.end(), parameter.name) != names.end()) continue;
    const double moved = effect(parameter) * unbounded_error(parameter);
    variance += moved * moved;
  }
  const double half_width = kNormal90 * std::sqrt(std::max(0.0, variance));
  return {center * std::exp(-half_width), center * std::exp(half_width)};
}

}  // namespace mmoe
