#pragma once
// What can be calibrated: names, meanings, physical ranges and uncalibrated values.

#include <array>
#include <string_view>

namespace mmoe {

// Whether a parameter has one value for the device or one for each precision ("gemm_efficiency.bf16").
enum class ParameterScope { kDevice, kPrecision };

// Low and high are what physics allows; value and error are the starting point on a CPU and on a GPU.
struct ParameterDefinition {
  std::string_view name;
  ParameterScope scope;
  std::string_view unit;
  double low, high;
  double cpu_value, cpu_error;
  double gpu_value, gpu_error;
  std::string_view meaning;
};

// Efficiencies are fractions of the peak (measured by the profile, else of the datasheet). Bounds above 1 leave room
// for a peak that was itself measured a little low.
inline constexpr std::array kTimeParameters = {
    ParameterDefinition{"gemm_efficiency", ParameterScope::kPrecision, "1", 0.05, 1.3, 0.8, 0.25, 0.72, 0.12,
                        "rate of large matrix products over the peak"},
    ParameterDefinition{"grouped_gemm_efficiency", ParameterScope::kPrecision, "1", 0.1, 1.5, 0.9, 0.3, 0.8, 0.2,
                        "rate of the experts' products over that of equal dense ones"},
    ParameterDefinition{"gemm_half_rows", ParameterScope::kPrecision, "1", 0.01, 2000, 6, 6, 128, 100,
                        "rows at which a product reaches half of its rate"},
    ParameterDefinition{"gemm_half_columns", ParameterScope::kPrecision, "1", 0.01, 2000, 4, 4, 128, 100,
                        "columns at which a product reaches half of its rate"},
    ParameterDefinition{"gemm_half_inner", ParameterScope::kPrecision, "1", 0.01, 2000, 4, 4, 128, 100,
                        "inner length at which a product reaches half of its rate"},
    ParameterDefinition{"attention_efficiency", ParameterScope::kPrecision, "1", 0.01, 1.3, 0.4, 0.25, 0.5, 0.15,
                        "rate of attention's products, forward, over the peak"},
    ParameterDefinition{"attention_backward_efficiency", ParameterScope::kPrecision, "1", 0.01, 1.3, 0.35, 0.25, 0.42,
                        0.15, "rate of attention's products, backward, over the peak"},
    ParameterDefinition{"attention_half_head_dim", ParameterScope::kPrecision, "1", 0.01, 1000, 16, 16, 32, 32,
                        "head size at which attention reaches half of its rate"},
    ParameterDefinition{"attention_half_seq_len", ParameterScope::kPrecision, "1", 0.01, 10000, 32, 40, 256, 256,
                        "sequence length at which attention, forward, reaches half of its rate"},
    ParameterDefinition{"attention_backward_half_seq_len", ParameterScope::kPrecision, "1", 0.01, 10000, 64, 80, 256,
                        256, "sequence length at which attention, backward, reaches half of its rate"},
    ParameterDefinition{"exponential_rate", ParameterScope::kPrecision, "1/s", 1e7, 1e14, 2.5e9, 2e9, 2e12, 1.5e12,
                        "exponentials a second in softmax and SiLU"},
    ParameterDefinition{"logit_rate", ParameterScope::kPrecision, "1/s", 1e7, 1e14, 1e9, 1e9, 1e12, 1e12,
                        "logits a second through maximum, sum and gradient of the loss"},
    ParameterDefinition{"memory_efficiency", ParameterScope::kPrecision, "1", 0.05, 2, 0.8, 0.3, 0.8, 0.12,
                        "bandwidth of elementwise passes over the stream bandwidth"},
    ParameterDefinition{"update_efficiency", ParameterScope::kDevice, "1", 0.05, 2, 0.8, 0.3, 0.8, 0.12,
                        "bandwidth of optimiser and gradient norm over the stream bandwidth"},
    ParameterDefinition{"cache_bandwidth_ratio", ParameterScope::kDevice, "1", 1, 40, 4, 3, 2.5, 1.5,
                        "bandwidth of the last-level cache over that of memory"},
    ParameterDefinition{"cache_bytes", ParameterScope::kDevice, "bytes", 1e5, 1e9, 2e7, 2e7, 4e7, 3e7,
                        "working set at which half of the traffic is served by the cache"},
    ParameterDefinition{"overlap", ParameterScope::kDevice, "1", 0, 1, 0.5, 0.3, 0.8, 0.15,
                        "share of the shorter of compute and traffic that the longer one hides"},
    ParameterDefinition{"call_overhead", ParameterScope::kPrecision, "s", 1e-8, 2e-3, 5e-6, 5e-6, 6e-6, 4e-6,
                        "fixed time of one elementwise call: dispatch, threads, autograd"},
    ParameterDefinition{"gemm_call_overhead", ParameterScope::kPrecision, "s", 1e-8, 2e-3, 6e-6, 6e-6, 6e-6, 4e-6,
                        "fixed time of one dense matrix product or attention call"},
    ParameterDefinition{"grouped_gemm_call_overhead", ParameterScope::kPrecision, "s", 1e-8, 2e-3, 6e-6, 6e-6, 1e-5,
                        1e-5, "fixed time of one expert product: a chunk on the CPU, a grouped launch on a GPU"},
    ParameterDefinition{"step_factor", ParameterScope::kPrecision, "1", 0.7, 2, 1.05, 0.1, 1.05, 0.1,
                        "time of operations within a step over their time when measured one by one"},
    ParameterDefinition{"step_overhead", ParameterScope::kDevice, "s", 1e-6, 1, 1e-3, 1e-3, 2e-3, 2e-3,
                        "fixed time of a step: data, reading the loss"},
};

// Bytes that the framework holds beside the job's tensors. On a GPU cuBLAS workspaces of 32 MiB (LibTorch's size on
// Hopper), one for the thread of the forward and one for that of the backward pass.
inline constexpr ParameterDefinition kFrameworkOverhead = {"framework_overhead_bytes",
                                                           ParameterScope::kDevice,
                                                           "bytes",
                                                           0,
                                                           4.0 * 1073741824,
                                                           0,
                                                           1e6,
                                                           67108864,
                                                           3.2e7,
                                                           "constant bytes beside the job's tensors"};

// Links of one fabric level, by the level's name ("link_latency.node"), and of one kind of collective, whose software
// takes time of its own ("link_latency.node.all_to_all"); there only where they were fitted. From the
// light's way through a rack to that around the globe, from Ethernet of 10 Mb/s to above NVLink 5.
struct LinkParameterDefinition {
  std::string_view name, unit;
  double low, high;
  std::string_view meaning;
};
inline constexpr LinkParameterDefinition kLinkLatency = {"link_latency", "s", 1e-8, 0.2,
                                                         "latency of one hop as collectives see it"};
inline constexpr LinkParameterDefinition kLinkBandwidth = {"link_bandwidth", "bytes/s", 1e6, 1e13,
                                                           "bandwidth of one device, one way, that collectives reach"};

// Peaks that a profile measured; they replace the datasheet's.
inline constexpr std::string_view kMatmulPeak = "matmul_peak";            // FLOP/s, by precision
inline constexpr std::string_view kStreamBandwidth = "stream_bandwidth";  // bytes/s

}  // namespace mmoe
