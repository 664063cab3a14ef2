#pragma once
// How fast a framework runs on a device: the numbers that are fitted to measured runs.

#include <array>

#include "sim/framework/number_definition.h"

namespace mmoe {

// Efficiencies are shares of datasheet peaks; times are seconds. Defaults: a Hopper GPU under Megatron-Core, before any
// fit.
struct TimeParameters {
  double gemm_efficiency = 0.8;
  double gemm_half_rows = 0, gemm_half_columns = 0, gemm_half_inner = 0;
  double gemm_bytes_share = 0.5;
  double gemm_backward_efficiency = 1;
  double gemm_gap = 0;
  double odd_vocabulary_efficiency = 1;
  double grouped_gemm_efficiency = 0.88;
  double fp8_efficiency = 0.85, fp4_efficiency = 0.6, row_scale_efficiency = 1;
  double cast_factor = 1;
  double attention_efficiency = 0.55, attention_backward_efficiency = 0.8;
  double attention_half_seq_len = 512, attention_half_head_dim = 0;
  double score_passes = 10;
  double unfused_softmax_host = 2e-4;
  double memory_efficiency = 0.85;
  double elementwise_factor = 1, elementwise_backward_factor = 1.8, expert_elementwise_factor = 1.5;
  double logit_bytes = 36;
  double host_per_layer = 1e-3, host_per_tensor_rank = 0, host_tensor_exponent = 1, host_per_moe_layer = 2e-3;
  double host_per_micro_batch = 0, host_per_step = 0.01, host_sharpness = 8;
  double hidden_by_head = 1;
  double layer_overhead = 0, moe_layer_overhead = 0;
  double exposed_tensor = 0.5, exposed_context = 0.3, exposed_expert = 0.8, exposed_data = 0.2;
  double exposed_tensor_async = 0.2, exposed_expert_async = 0.2;
  double exposed_pipeline = 1;
  double sharded_transfer_factor = 1, data_latency_per_layer = 0;
  double recompute_factor = 1;
  double accumulation_bytes = 6, optimizer_bytes = 34;
  double straggler_per_doubling = 0.006;
};

inline constexpr std::array kTimeParameterDefinitions = std::to_array<NumberDefinition<TimeParameters>>({
    {"gemm_efficiency", &TimeParameters::gemm_efficiency, 0.2, 1, "rate of large matrix products over the peak"},
    {"gemm_half_rows", &TimeParameters::gemm_half_rows, 0, 4000, "rows at which a product reaches half of its rate"},
    {"gemm_half_columns", &TimeParameters::gemm_half_columns, 0, 4000, "the same for columns"},
    {"gemm_half_inner", &TimeParameters::gemm_half_inner, 0, 4000, "the same for the inner length"},
    {"gemm_bytes_share", &TimeParameters::gemm_bytes_share, 0, 1.5, "operand traffic that adds to a product's time"},
    {"gemm_backward_efficiency", &TimeParameters::gemm_backward_efficiency, 0.5, 1.2, "backward over forward rate"},
    {"gemm_gap", &TimeParameters::gemm_gap, 0, 1e-4, "idle time after each product, s"},
    {"odd_vocabulary_efficiency", &TimeParameters::odd_vocabulary_efficiency, 0.05, 1,
     "rate of the head's products where the vocabulary is odd and not split"},
    {"grouped_gemm_efficiency", &TimeParameters::grouped_gemm_efficiency, 0.3, 1.1, "expert over dense products"},
    {"fp8_efficiency", &TimeParameters::fp8_efficiency, 0.3, 1.1, "share of the fp8 peak over that of the bf16 peak"},
    {"fp4_efficiency", &TimeParameters::fp4_efficiency, 0.2, 1.1, "share of the fp4 peak over that of the bf16 peak"},
    {"row_scale_efficiency", &TimeParameters::row_scale_efficiency, 0.2, 1,
     "rate of fp8 products with a scale a row over that with a scale a tensor (training.options row_scales)"},
    {"cast_factor", &TimeParameters::cast_factor, 0, 4, "traffic of casts to 8 or 4 bits over one read and write"},
    {"attention_efficiency", &TimeParameters::attention_efficiency, 0.05, 1, "flash attention, forward, over the peak"},
    {"attention_backward_efficiency", &TimeParameters::attention_backward_efficiency, 0.3, 1.2,
     "backward over forward"},
    {"attention_half_seq_len", &TimeParameters::attention_half_seq_len, 0, 8000,
     "sequence length at which attention reaches half of its rate"},
    {"attention_half_head_dim", &TimeParameters::attention_half_head_dim, 0, 512, "the same for the head size"},
    {"score_passes", &TimeParameters::score_passes, 1, 40,
     "passes over the scores of unfused attention, in 2-byte elements, forward"},
    {"unfused_softmax_host", &TimeParameters::unfused_softmax_host, 0, 5e-3,
     "more host time of a layer of unfused attention where Megatron's softmax kernel cannot run, s"},
    {"memory_efficiency", &TimeParameters::memory_efficiency, 0.2, 1, "bandwidth of elementwise kernels over the peak"},
    {"elementwise_factor", &TimeParameters::elementwise_factor, 0.2, 5, "elementwise traffic over the least one"},
    {"elementwise_backward_factor", &TimeParameters::elementwise_backward_factor, 0.5, 4, "backward over forward"},
    {"expert_elementwise_factor", &TimeParameters::expert_elementwise_factor, 0.2, 6,
     "traffic of permuting and activating experts' rows over the least one"},
    {"logit_bytes", &TimeParameters::logit_bytes, 2, 80, "traffic of the loss for each logit, bytes"},
    {"host_per_layer", &TimeParameters::host_per_layer, 0, 2e-2, "host time of a dense layer, forward and backward, s"},
    {"host_per_tensor_rank", &TimeParameters::host_per_tensor_rank, 0, 2e-2,
     "more of it with t tensor-parallel ranks: this times (t - 1) ^ host_tensor_exponent, s"},
    {"host_tensor_exponent", &TimeParameters::host_tensor_exponent, 0, 1.2, "how that grows with the ranks"},
    {"host_per_moe_layer", &TimeParameters::host_per_moe_layer, 0, 5e-2, "host time of a MoE layer, s"},
    {"host_per_micro_batch", &TimeParameters::host_per_micro_batch, 0, 0.1, "host time of a micro-batch and stage, s"},
    {"host_per_step", &TimeParameters::host_per_step, 0, 2, "fixed time of a step, s"},
    {"host_sharpness", &TimeParameters::host_sharpness, 1, 32, "p of the norm that joins host and device time"},
    {"hidden_by_head", &TimeParameters::hidden_by_head, 0, 1,
     "share of the device time of embedding and head that launching the layers may hide behind: all of it, or nothing "
     "where a host waits for the device at the end of every pass (timers that synchronise)"},
    {"layer_overhead", &TimeParameters::layer_overhead, 0, 5e-3, "idle device time of every layer, s"},
    {"moe_layer_overhead", &TimeParameters::moe_layer_overhead, 0, 1e-2, "more of it in a MoE layer, s"},
    {"exposed_tensor", &TimeParameters::exposed_tensor, 0, 1.5, "share of tensor-parallel transfers not hidden"},
    {"exposed_context", &TimeParameters::exposed_context, 0, 1.5, "share of context-parallel transfers not hidden"},
    {"exposed_expert", &TimeParameters::exposed_expert, 0, 2, "share of expert-parallel transfers not hidden"},
    {"exposed_tensor_async", &TimeParameters::exposed_tensor_async, 0, 1.5,
     "the same where products are cut up to hide the transfers of their own rows (training.options async_tensor)"},
    {"exposed_expert_async", &TimeParameters::exposed_expert_async, 0, 2,
     "the same where one micro-batch's transfers hide behind another's pass (training.options async_expert)"},
    {"exposed_data", &TimeParameters::exposed_data, 0, 1.5, "share of data-parallel transfers not hidden"},
    {"exposed_pipeline", &TimeParameters::exposed_pipeline, 0, 2, "share of sends between stages not hidden"},
    {"sharded_transfer_factor", &TimeParameters::sharded_transfer_factor, 0.5, 5,
     "time of reduce-scatters and all-gathers of ZeRO over that of single large ones"},
    {"data_latency_per_layer", &TimeParameters::data_latency_per_layer, 0, 1e-3,
     "latency of a layer's many small gradient transfers across nodes, for each further data-parallel rank, s"},
    {"recompute_factor", &TimeParameters::recompute_factor, 0, 1.5, "recomputed over first forward time"},
    {"accumulation_bytes", &TimeParameters::accumulation_bytes, 0, 24,
     "traffic of adding up gradients, bytes a weight and micro-batch"},
    {"optimizer_bytes", &TimeParameters::optimizer_bytes, 10, 150, "traffic of the optimiser, bytes a weight it owns"},
    {"straggler_per_doubling", &TimeParameters::straggler_per_doubling, 0, 0.1,
     "time lost at each doubling of the nodes, share"},
});

}  // namespace mmoe
