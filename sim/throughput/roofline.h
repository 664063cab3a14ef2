#pragma once
// Seconds of a piece of work on one device: call overhead, compute at the efficiency of its shape, memory traffic at
// the bandwidth of its working set (Williams et al. 2009, "Roofline", doi:10.1145/1498765.1498785, with partial
// overlap).

#include "sim/calibration/calibration.h"
#include "sim/throughput/operations.h"

namespace mmoe {

// The calibration's parameters for one device and precision, resolved for quick use. Their meanings and physical ranges
// stand in sim/calibration/parameters.h.
struct RooflineParameters {
  Precision precision = Precision::kFp32;  // of the job
  double matmul_peak = 0;                  // FLOP/s in that precision
  double matmul_peak_fp32 = 0;             // FLOP/s of pieces that run in fp32 whatever the job's precision (router)
  double bandwidth = 0;                    // bytes/s
  double gemm_efficiency = 1;
  double grouped_gemm_efficiency = 1;  // of experts, relative to gemm_efficiency
  double gemm_half_rows = 0, gemm_half_columns = 0, gemm_half_inner = 0;
  double attention_efficiency = 1, attention_backward_efficiency = 1;
  double attention_half_head_dim = 0, attention_half_seq_len = 0, attention_backward_half_seq_len = 0;
  double exponential_rate = 1;  // exponentials/s
  double logit_rate = 1;        // logits/s through the loss
  double memory_efficiency = 1, update_efficiency = 1;
  double cache_bandwidth_ratio = 1, cache_bytes = 1;
  double overlap = 1;                                                                // 0 (sum) .. 1 (maximum)
  double call_overhead = 0, gemm_call_overhead = 0, grouped_gemm_call_overhead = 0;  // seconds
  double step_factor = 1;    // a step over the sum of its operations measured alone
  double step_overhead = 0;  // seconds
};

// Throws ConfigError when the device has no peak for the precision.
RooflineParameters roofline_parameters(const Calibration& calibration, const HardwareConfig& hardware,
                                       Precision precision);

// One piece: calls * overhead + max(c, m) + (1 - overlap) min(c, m), with c compute and m traffic. It never falls when
// any part of the work grows at fixed shape.
Seconds operation_seconds(const OperationCost& cost, const RooflineParameters& parameters);

// Fraction of the large-matrix rate that a product of this shape reaches: r/(r + r_half) c/(c + c_half) i/(i + i_half)
// (Hockney and Jesshope 1988, "Parallel Computers 2": the half-performance length n_1/2).
double gemm_shape_factor(double rows, double columns, double inner, const RooflineParameters& parameters);

}  // namespace mmoe
