#include "sim/cluster/step_time.h"

#include <algorithm>
#include <cmath>

namespace mmoe {
namespace {

constexpr double kWeightBytes = 2;  // as gathered: compute precision

double gradient_bytes(const Job& job) { return job.training.gradient_precision == Precision::kFp32 ? 4 : 2; }

void add(ChunkSeconds& sum, SecondsByCause& causes, const LayerSeconds& layer, double count) {
  sum.forward += Seconds{count * layer.forward_total()};
  sum.backward_weight += Seconds{count * layer.weight_gradients};
  sum.backward_input += Seconds{count * (layer.backward_total() - layer.weight_gradients)};
  for (std::size_t i = 0; i < causes.size(); ++i) causes[i] += count * (layer.forward[i] + layer.backward[i]);
}

// Weights of one class over their group: what one step transfers, by ZeRO stage (Rajbhandari et al. 2020,
// arXiv:1910.02054, section 7).
double data_transfer_seconds(const Job& job, const Network& network, const GroupPlacement& group, double weights) {
  if (group.size <= 1 || weights <= 0) return 0;
  const Bytes gradients{gradient_bytes(job) * weights}, gathered{kWeightBytes * weights};
  if (job.parallelism.zero_stage == 0) return all_reduce(network, group, gradients).value;
  const double gather = all_gather(network, group, gathered).value;
  const double scatter = reduce_scatter(network, group, gradients).value;
  if (job.parallelism.zero_stage < 3) return gather + scatter;
  const auto micro_batches = static_cast<double>(job.num_micro_batches());
  return micro_batches * (2 * gather + scatter);
}

RankGroup limited(RankGroup group, int64_t size) {
  if (size > 0) group.size = std::min(group.size, size);
  return group;
}

}  // namespace

StageSeconds stage_seconds(const Job& job, const Framework& framework, const LayerTimes& layers,
                           const PipelineStages& stages, double k, double rows_factor) {
  const ModelConfig& model = job.model;
  const bool has_dense = model.num_moe_layers()<model.num_layers, has_moe = model.num_moe_layers()> 0;
  const LayerSeconds dense = has_dense ? layers.dense_layer() : LayerSeconds{};
  const LayerSeconds moe = has_moe ? layers.moe_layer(k, rows_factor) : LayerSeconds{};
  StageSeconds result;
  for (const auto& rank : stages) {
    for (const StageChunk& chunk : rank) {
      ChunkSeconds sum{};
      SecondsByCause causes{};
      add(sum, causes, dense, static_cast<double>(chunk.num_dense_layers(model)));
      add(sum, causes, moe, static_cast<double>(chunk.num_moe_layers(model)));
      if (chunk.embedding) add(sum, causes, layers.embedding(), 1);
      if (chunk.head) {
        add(sum, causes, layers.head(), 1);
        if (model.num_mtp_layers > 0)
          add(sum, causes, layers.multi_token(k), static_cast<double>(model.num_mtp_layers));
      }
      LayerSeconds host;
      host.forward[static_cast<std::size_t>(TimeCause::kHost)] = framework.time.host_per_micro_batch / 2;
      host.backward = host.forward;
      add(sum, causes, host, 1);
      result.chunks.push_back(sum);
      result.by_cause.push_back(causes);
    }
  }
  return result;
}

PipelineShape pipeline_shape(const Job& job) {
  return {job.parallelism.schedule, job.parallelism.pipeline, job.parallelism.virtual_pipeline,
          job.num_micro_batches()};
}

Transfers stage_transfers(const Job& job, const Framework& framework, const LayerTimes& layers) {
  Transfers transfers;
  if (job.parallelism.pipeline <= 1) return transfers;
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  const GroupPlacement pipeline = place(groups.pipeline, layers.network().domains);
  const Bytes bytes{2 * layers.shapes().split_tokens * layers.shapes().hidden_size};
  const Seconds seconds = send(layers.network(), pipeline, bytes) * framework.time.exposed_pipeline;
  transfers.mode = TransferMode::kBlocking;
  transfers.seconds.assign(static_cast<std::size_t>(job.parallelism.pipeline), seconds);
  return transfers;
}

ClusterStepTime step_tail(const Job& job, const Framework& framework, const LayerTimes& layers,
                          const PipelineStages& stages, double pipeline_seconds, double backward) {
  const TimeParameters& time = framework.time;
  const ParallelismConfig& parallelism = job.parallelism;
  const RankGroups groups = rank_groups(parallelism, job.hardware.num_devices);
  const FabricDomains& domains = layers.network().domains;
  const GroupPlacement dense_group = place(limited(groups.data_context, parallelism.zero_group), domains);
  const GroupPlacement expert_group = place(limited(groups.expert_data, parallelism.zero_group), domains);
  const double bandwidth = job.hardware.spec.memory_bandwidth.value * time.memory_efficiency;
  const bool sharded = parallelism.zero_stage >= 1;
  double transfers = 0, optimizer = 0;
  for (const auto& chunks : stages) {
    const RankWeights weights = rank_weights(job, framework, chunks);
    transfers = std::max(transfers, data_transfer_seconds(job, layers.network(), dense_group, weights.dense) +
                                        data_transfer_seconds(job, layers.network(), expert_group, weights.expert));
    const double owned = sharded ? weights.dense / static_cast<double>(dense_group.size) +
                                       weights.expert / static_cast<double>(expert_group.size)
                                 : weights.total();
    const auto micro_batches = static_cast<double>(job.num_micro_batches());
    optimizer =
        std::max(optimizer, (owned * time.optimizer_bytes + micro_batches * weights.total() * time.accumulation_bytes) /
                                bandwidth);
  }
  ClusterStepTime tail;
  // With sharded weights every micro-batch offers time to hide behind, else the last backward pass does.
  const double hideable = parallelism.zero_stage == 3 ? pipeline_seconds : backward;
  const double exposed = job.training.overlap ? time.exposed_data : 1;
  tail.data_transfers = transfers - std::min((1 - exposed) * transfers, hideable);
  tail.optimizer = optimizer;
  tail.fixed = time.host_per_step;
  const double nodes =
      static_cast<double>(job.hardware.num_devices) / static_cast<double>(job.hardware.devices_per_node);
  tail.stragglers = (pipeline_seconds + tail.data_transfers + optimizer + tail.fixed) * time.straggler_per_doubling *
                    std::log2(std::max(1.0, nodes));
  return tail;
}

ClusterStepTime cluster_step_time(const Job& job, const Framework& framework, double k, double rows_factor) {
  const LayerTimes layers(job, framework);
  const PipelineStages stages = pipeline_stages(job, framework);
  const StageSeconds seconds = stage_seconds(job, framework, layers, stages, k, rows_factor);
  const PipelineShape shape = pipeline_shape(job);
  const double pipeline = uneven_stages_seconds(shape, seconds.chunks, stage_transfers(job, framework, layers)).value;
  // The slowest rank.
  const auto v = static_cast<std::size_t>(job.parallelism.virtual_pipeline);
  std::size_t slowest = 0;
  double most = 0, backward = 0;
  for (std::size_t rank = 0; rank < stages.size(); ++rank) {
    double sum = 0, back = 0;
    for (std::size_t chunk = rank * v; chunk < (rank + 1) * v; ++chunk) {
      sum += seconds.chunks[chunk].total().value;
      back += seconds.chunks[chunk].backward().value;
    }
    if (sum <= most) continue;
    most = sum;
    backward = back;
    slowest = rank;
  }
  ClusterStepTime step = step_tail(job, framework, layers, stages, pipeline, backward);
  const auto micro_batches = static_cast<double>(job.num_micro_batches());
  for (std::size_t chunk = slowest * v; chunk < (slowest + 1) * v; ++chunk) {
    for (std::size_t i = 0; i < step.micro_batches.size(); ++i) {
      step.micro_batches[i] += micro_batches * seconds.by_cause[chunk][i];
    }
  }
  step.bubble = pipeline - total(step.micro_batches);
  return step;
}

}  // namespace mmoe
