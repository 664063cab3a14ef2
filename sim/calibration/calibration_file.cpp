#include <cmath>
#include <limits>
#include <set>

#include "profiles/store/atomic_file.h"
#include "profiles/store/json_fields.h"
#include "sim/calibration/calibration.h"
#include "sim/calibration/parameters.h"

namespace mmoe {
namespace {

constexpr double kHuge = 1e300;  // finite, whatever the unit

CalibrationParameter parse_parameter(const nlohmann::json& json, const std::string& where, const std::string& name) {
  JsonFields fields(json, where, "parameters." + name);
  CalibrationParameter parameter;
  parameter.name = name;
  parameter.low = fields.number("low", 0, kHuge);
  parameter.high = fields.number("high", parameter.low, kHuge);
  parameter.value = fields.number("value", parameter.low, parameter.high);
  parameter.standard_error = fields.number("standard_error", 0, kHuge);
  parameter.unit = fields.text("unit");
  parameter.note = fields.text("note");
  fields.finish();
  return parameter;
}

void parse_covariance(JsonFields& file, Calibration& calibration) {
  const nlohmann::json& covariance = file.object("covariance");
  JsonFields fields(covariance, file.where(), "covariance");
  for (const nlohmann::json& name : fields.array("parameters")) {
    if (!name.is_string() || calibration.find(name.get<std::string>()) == nullptr) {
      fields.fail("parameters", "must name parameters of this file");
    }
    calibration.covariance_names.push_back(name.get<std::string>());
  }
  const size_t n = calibration.covariance_names.size();
  const nlohmann::json& values = fields.array("values");
  if (values.size() != n * n) fields.fail("values", "must hold " + std::to_string(n * n) + " numbers");
  for (const nlohmann::json& value : values) {
    if (!value.is_number() || !std::isfinite(value.get<double>())) fields.fail("values", "must hold finite numbers");
    calibration.covariance.push_back(value.get<double>());
  }
  for (size_t i = 0; i < n; ++i) {
    if (calibration.covariance[i * n + i] < 0) fields.fail("values", "has a negative variance");
  }
  fields.finish();
}

// A calibration must know everything that a prediction asks for.
void require_all(const Calibration& calibration, const JsonFields& fields) {
  const auto require = [&](const ParameterDefinition& definition) {
    if (calibration.find(definition.name) == nullptr) {
      fields.fail("parameters." + std::string(definition.name), "is missing");
    }
  };
  for (const ParameterDefinition& definition : kTimeParameters) require(definition);
  require(kFrameworkOverhead);
}

}  // namespace

Calibration parse_calibration(const nlohmann::json& json, const std::string& where) {
  JsonFields fields(json, where, "");
  const int64_t version = fields.integer("schema_version", 0, std::numeric_limits<int>::max());
  if (version != kCalibrationSchemaVersion) {
    fields.fail("schema_version", "= " + std::to_string(version) + " is not " +
                                      std::to_string(kCalibrationSchemaVersion) +
                                      ", the only one this program reads; run mmoe calibrate again");
  }
  Calibration calibration;
  calibration.framework = fields.text("framework");
  calibration.device = fields.text("device");
  calibration.source = fields.text("source");
  for (const auto& item : fields.object("parameters").items()) {
    calibration.parameters.push_back(parse_parameter(item.value(), where, item.key()));
  }
  require_all(calibration, fields);
  parse_covariance(fields, calibration);
  JsonFields spread(fields.object("spread"), where, "spread");
  calibration.operation_spread = spread.number("operation_seconds", 0, 100);
  calibration.step_spread = spread.number("step_seconds", 0, 100);
  calibration.peak_bytes_spread = spread.number("peak_allocated_bytes", 0, 100);
  if (spread.has("collective_seconds")) calibration.collective_spread = spread.number("collective_seconds", 0, 100);
  spread.finish();
  fields.finish();
  return calibration;
}

Calibration load_calibration(const std::string& path) { return parse_calibration(json_from_file(path), path); }

nlohmann::json to_json(const Calibration& calibration) {
  nlohmann::json parameters = nlohmann::json::object();
  for (const CalibrationParameter& p : calibration.parameters) {
    parameters[p.name] = {{"value", p.value}, {"standard_error", p.standard_error},
                          {"low", p.low},     {"high", p.high},
                          {"unit", p.unit},   {"note", p.note}};
  }
  return {{"schema_version", calibration.schema_version},
          {"framework", calibration.framework},
          {"device", calibration.device},
          {"source", calibration.source},
          {"parameters", parameters},
          {"covariance", {{"parameters", calibration.covariance_names}, {"values", calibration.covariance}}},
          {"spread",
           {{"operation_seconds", calibration.operation_spread},
            {"step_seconds", calibration.step_spread},
            {"peak_allocated_bytes", calibration.peak_bytes_spread},
            {"collective_seconds", calibration.collective_spread}}}};
}

void save_calibration(const Calibration& calibration, const std::string& path) {
  write_file_atomically(path, to_json(calibration).dump(1) + "\n");
}

}  // namespace mmoe
