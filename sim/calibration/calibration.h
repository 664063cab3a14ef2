#pragma once
// Efficiency and overhead parameters of one device, with their uncertainty: what turns work into seconds.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/training_config.h"
#include "sim/units/units.h"

namespace mmoe {

inline constexpr int kCalibrationSchemaVersion = 1;

// One number with its uncertainty and the range that physics allows.
struct CalibrationParameter {
  std::string name;  // "gemm_half_rows"; with a precision where it differs by precision: "gemm_efficiency.bf16"
  double value = 0;
  double standard_error = 0;
  double low = 0, high = 0;  // physical bounds
  std::string unit;          // "1", "s", "bytes", "FLOP/s"
  std::string note;          // what it was fitted to
};

struct Calibration {
  int schema_version = kCalibrationSchemaVersion;
  std::string framework = "mmoe";
  std::string device;
  std::string source;  // what it was fitted to, or that it was not
  std::vector<CalibrationParameter> parameters;

  // Covariance of the fitted parameters on the unbounded scale of `to_unbounded`, row-major; empty: independent, from
  // the standard errors.
  std::vector<std::string> covariance_names;
  std::vector<double> covariance;

  // Standard deviation of log(measured / predicted) that parameters do not explain, for records of jobs not fitted.
  double operation_spread = 0;
  double step_spread = 0;
  double peak_bytes_spread = 0;
  double collective_spread = 0;

  // "name.precision" if there is one, else "name"; MMOE_CHECKs that one of them exists.
  const CalibrationParameter& parameter(std::string_view name, Precision precision) const;
  double value(std::string_view name, Precision precision) const { return parameter(name, precision).value; }
  // Exactly this name; nullptr when absent.
  const CalibrationParameter* find(std::string_view full_name) const;
  CalibrationParameter* find(std::string_view full_name);

  // Constant bytes that the framework holds beside the job's tensors.
  Bytes framework_overhead() const;
};

// Whether operations of that precision were fitted.
bool has_fitted_operations(const Calibration& calibration, Precision precision);

// The uncalibrated values for a device, with wide standard errors.
Calibration default_calibration(const DeviceSpec& device);

// The peak that MFU divides by: the datasheet's; on the CPU the measured rate of a large matrix product if there is
// one.
FlopsPerSecond device_peak(const Calibration& calibration, const DeviceSpec& device, Precision precision);

// calibration.json. Loading throws ConfigError naming file and key; saving is atomic.
Calibration load_calibration(const std::string& path);
Calibration parse_calibration(const nlohmann::json& json, const std::string& where);
nlohmann::json to_json(const Calibration& calibration);
void save_calibration(const Calibration& calibration, const std::string& path);

// A bounded parameter on a scale without bounds (logit between the bounds; of the logarithm where low > 0), and back.
double to_unbounded(double value, double low, double high);
double from_unbounded(double unbounded, double low, double high);
// A parameter's standard error on that scale, to first order.
double unbounded_error(const CalibrationParameter& parameter);

// A prediction's 90 % interval: parameter uncertainty carried through `predict` to first order on the log scale, and
// the spread that parameters do not explain.
struct Interval {
  double low = 0;
  double high = 0;
};
Interval prediction_interval(const Calibration& calibration, const std::function<double(const Calibration&)>& predict,
                             double spread);

}  // namespace mmoe
