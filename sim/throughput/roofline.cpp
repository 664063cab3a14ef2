#include "sim/throughput/roofline.h"

#include <algorithm>
#include <string>

#include "sim/calibration/parameters.h"
#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

double matmul_peak(const Calibration& calibration, const DeviceSpec& device, Precision precision) {
  const std::string name = std::string(kMatmulPeak) + "." + name_of(precision);
  const CalibrationParameter* measured = calibration.find(name);
  const double peak = measured != nullptr ? measured->value : peak_of(device, precision).value;
  if (peak <= 0) {
    throw ConfigError("training.precision = " + name_of(precision) + ": hardware.device " + device.name +
                      " has no known peak for it; use another precision, or a calibration with " + name);
  }
  return peak;
}

// Bytes at memory's bandwidth that cost as much time as `bytes` of a working set that the cache serves in part.
double memory_equivalent(double bytes, double working_set, const RooflineParameters& p) {
  const double fill = working_set / p.cache_bytes;
  const double cached = 1 / (1 + fill * fill);
  return bytes * (cached / p.cache_bandwidth_ratio + 1 - cached);
}

// Scores are computed tile by tile, which pays more the fewer keys a query sees and the shorter the dot products are.
double attention_efficiency(const OperationCost& cost, const RooflineParameters& p) {
  const bool backward = cost.phase == Phase::kBackward;
  const double half_seq_len = backward ? p.attention_backward_half_seq_len : p.attention_half_seq_len;
  return (backward ? p.attention_backward_efficiency : p.attention_efficiency) * cost.rows /
         (cost.rows + half_seq_len) * cost.inner / (cost.inner + p.attention_half_head_dim);
}

}  // namespace

FlopsPerSecond device_peak(const Calibration& calibration, const DeviceSpec& device, Precision precision) {
  const double datasheet = peak_of(device, precision).value;
  if (!device.is_cpu && datasheet > 0) return FlopsPerSecond{datasheet};
  return FlopsPerSecond{matmul_peak(calibration, device, precision)};
}

RooflineParameters roofline_parameters(const Calibration& calibration, const HardwareConfig& hardware,
                                       Precision precision) {
  const auto value = [&](std::string_view name) { return calibration.value(name, precision); };
  RooflineParameters p;
  p.precision = precision;
  p.matmul_peak = matmul_peak(calibration, hardware.spec, precision);
  p.matmul_peak_fp32 =
      precision == Precision::kFp64 ? p.matmul_peak : matmul_peak(calibration, hardware.spec, Precision::kFp32);
  const CalibrationParameter* bandwidth = calibration.find(kStreamBandwidth);
  p.bandwidth = bandwidth != nullptr ? bandwidth->value : hardware.spec.memory_bandwidth.value;
  if (p.bandwidth <= 0) {
    throw ConfigError("hardware.device " + hardware.spec.name +
                      " has no known memory bandwidth; use a calibration with " + std::string(kStreamBandwidth));
  }
  p.gemm_efficiency = value("gemm_efficiency");
  p.grouped_gemm_efficiency = value("grouped_gemm_efficiency");
  p.gemm_half_rows = value("gemm_half_rows");
  p.gemm_half_columns = value("gemm_half_columns");
  p.gemm_half_inner = value("gemm_half_inner");
  p.attention_efficiency = value("attention_efficiency");
  p.attention_backward_efficiency = value("attention_backward_efficiency");
  p.attention_half_head_dim = value("attention_half_head_dim");
  p.attention_half_seq_len = value("attention_half_seq_len");
  p.attention_backward_half_seq_len = value("attention_backward_half_seq_len");
  p.exponential_rate = value("exponential_rate");
  p.logit_rate = value("logit_rate");
  p.memory_efficiency = value("memory_efficiency");
  p.update_efficiency = value("update_efficiency");
  p.cache_bandwidth_ratio = value("cache_bandwidth_ratio");
  p.cache_bytes = value("cache_bytes");
  p.overlap = value("overlap");
  p.call_overhead = value("call_overhead");
  p.gemm_call_overhead = value("gemm_call_overhead");
  p.grouped_gemm_call_overhead = value("grouped_gemm_call_overhead");
  p.step_factor = value("step_factor");
  p.step_overhead = value("step_overhead");
  return p;
}

double gemm_shape_factor(double rows, double columns, double inner, const RooflineParameters& p) {
  return rows / (rows + p.gemm_half_rows) * columns / (columns + p.gemm_half_columns) * inner /
         (inner + p.gemm_half_inner);
}

Seconds operation_seconds(const OperationCost& cost, const RooflineParameters& p) {
  const double peak = cost.precision == p.precision ? p.matmul_peak : p.matmul_peak_fp32;
  double compute = cost.exponentials / p.exponential_rate;
  double traffic_efficiency = p.memory_efficiency;
  double overhead = p.call_overhead;
  switch (cost.cost_class) {
    case CostClass::kGemm:
    case CostClass::kGroupedGemm: {
      double efficiency = p.gemm_efficiency * gemm_shape_factor(cost.rows, cost.columns, cost.inner, p);
      overhead = p.gemm_call_overhead;
      if (cost.cost_class == CostClass::kGroupedGemm) {
        efficiency *= p.grouped_gemm_efficiency;
        overhead = p.grouped_gemm_call_overhead;
      }
      compute += cost.flops / (peak * efficiency);
      break;
    }
    case CostClass::kAttention:
      compute += cost.flops / (peak * attention_efficiency(cost, p));
      overhead = p.gemm_call_overhead;
      break;
    case CostClass::kLoss:
      compute = cost.exponentials / p.logit_rate;
      break;
    case CostClass::kMemory:
      break;
    case CostClass::kUpdate:
      traffic_efficiency = p.update_efficiency;
      break;
  }
  const double traffic = memory_equivalent(cost.bytes, cost.working_set, p) / (p.bandwidth * traffic_efficiency);
  return Seconds{cost.calls * overhead + std::max(compute, traffic) + (1 - p.overlap) * std::min(compute, traffic)};
}

}  // namespace mmoe
