#include "sim/cluster/step_time.h"

#include <algorithm>
#include <cmath>

#include "sim/cluster/memory_model.h"
#include "sim/memory/layer_memory.h"

namespace mmoe {
namespace {

// Of bytes that cross the link to the host and bytes that pass its memory, side by side; memory of unknown bandwidth is
// no limit.
double host_seconds(const HardwareConfig& hardware, double over_link, double through_memory) {
  const double bandwidth = hardware.cluster_spec.host_bandwidth.value;
  return std::max(over_link / hardware.spec.host_link.value, bandwidth > 0 ? through_memory / bandwidth : 0);
}

double gradient_bytes(const Job& job) { return job.training.gradient_precision == Precision::kFp32 ? 4 : 2; }

// The ranks that hold the same weights, as they lie on the fabric: those that share one sharded copy, and those that
// hold the same share of the copies. Unsharded weights are shared by all.
struct DataGroups {
  GroupPlacement shards, copies;
};
DataGroups data_groups(const RankGroup& all, int64_t copies, const FabricDomains& domains) {
  if (copies == 1) return {place(all, domains), {}};
  const int64_t shards = std::max<int64_t>(1, all.size / copies);
  return {place({shards, all.stride}, domains), place({all.size / shards, all.stride * shards}, domains)};
}

// Of weights of one class over their groups. Several sharded copies add up their shares' gradients once a step
// (Megatron-Core 0.16.1, distributed/param_and_grad_buffer.py, start_grad_sync).
SyncSeconds sync_seconds(const Job& job, const TimeParameters& time, const Network& network, const DataGroups& groups,
                         double weights, double gathered_bytes) {
  if (weights <= 0) return {};
  const Bytes gradients{gradient_bytes(job) * weights}, gathered{gathered_bytes * weights};
  SyncSeconds seconds;
  if (groups.copies.size > 1) {
    seconds.copies = all_reduce(network, groups.copies, gradients / static_cast<double>(groups.shards.size)).value;
  }
  if (groups.shards.size <= 1) return seconds;
  seconds.reduce = all_reduce(network, groups.shards, gradients).value;
  seconds.gather = time.sharded_transfer_factor * all_gather(network, groups.shards, gathered).value;
  seconds.scatter = time.sharded_transfer_factor * reduce_scatter(network, groups.shards, gradients).value;
  return seconds;
}

// What one step transfers, by ZeRO stage (Rajbhandari et al. 2020, arXiv:1910.02054, section 7).
double step_total(const SyncSeconds& seconds, const Job& job) {
  if (job.parallelism.zero_stage == 0) return seconds.reduce;
  if (job.parallelism.zero_stage == 1) return seconds.copies + seconds.gather + seconds.scatter;
  // Sharded gradients are reduced after every micro-batch, sharded weights gathered before both of its passes.
  const auto micro_batches = static_cast<double>(job.num_micro_batches());
  if (job.parallelism.zero_stage == 2) return seconds.copies + seconds.gather + micro_batches * seconds.scatter;
  return seconds.copies + micro_batches * (2 * seconds.gather + seconds.scatter);
}

// Leaves out what another stage holds at least as much of, in both classes: neither transfers nor updates take it
// longer.
std::vector<RankWeights>& largest_only(std::vector<RankWeights>& stages) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const RankWeights one = stages[i];
    const auto covers = [&](const RankWeights& other) {
      return other.dense >= one.dense && other.expert >= one.expert;
    };
    const auto rest = stages.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    const bool covered = std::any_of(stages.begin(), stages.begin() + static_cast<std::ptrdiff_t>(kept), covers) ||
                         std::any_of(rest, stages.end(), covers);
    if (!covered) stages[kept++] = one;
  }
  stages.resize(kept);
  return stages;
}

// First and last stage add up the gradients of an embedding that both hold: for a tied head, or for the layers of
// multi-token prediction. It follows the data-parallel transfers, whole buffers wherever those are sharded, and nothing
// hides it. Source: Megatron-Core, distributed/finalize_model_grads.py, _allreduce_word_embedding_grads.
double shared_embedding_seconds(const Job& job, const Network& network, const WeightPieces& pieces,
                                const PipelineStages& stages) {
  const bool shared = job.model.tie_embeddings || job.model.num_mtp_layers > 0;
  const bool apart = std::none_of(stages.front().begin(), stages.front().end(), [](const auto& c) { return c.head; });
  if (!shared || !apart) return 0;
  const GroupPlacement pipeline =
      place(rank_groups(job.parallelism, job.hardware.num_devices).pipeline, network.domains);
  GroupPlacement ends{.size = 2, .num_levels = pipeline.num_levels};
  // Ends that a domain does not join with all between them lie in two of its kind: whole domains fill the devices.
  for (int level = 0; level < pipeline.num_levels; ++level) {
    ends.members[level] = pipeline.members[level] == pipeline.size ? 2 : 1;
  }
  return all_reduce(network, ends, Bytes{gradient_bytes(job) * pieces.table}).value;
}

}  // namespace

void ChunkWork::add(const LayerSeconds& layer, double count, double recomputed) {
  const double spared = count - recomputed;
  device.forward += Seconds{count * layer.forward_total()};
  device.backward_weight += Seconds{count * layer.weight_gradients};
  device.backward_input +=
      Seconds{count * (layer.backward_total() - layer.weight_gradients) - spared * total(layer.again)};
  host += count * layer.host;
  for (std::size_t i = 0; i < by_cause.size(); ++i)
    by_cause[i] += count * (layer.forward[i] + layer.backward[i]) - spared * layer.again[i];
}

ChunkSeconds joined(const ChunkWork& work, const TimeParameters& time) {
  const double device = work.device.total().value;
  if (work.host <= 0 || device <= 0) return work.device;
  const double hiding = device - (1 - time.hidden_by_head) * work.ends;
  const double ratio = work.host / hiding;
  // Far below the device's time the host adds nothing that a double could tell.
  if (ratio < 0.1) return work.device;
  const double joint = hiding * std::pow(1 + std::pow(ratio, time.host_sharpness), 1 / time.host_sharpness);
  const double factor = 1 + (joint - hiding) / device;
  return {work.device.forward * factor, work.device.backward_input * factor, work.device.backward_weight * factor};
}

PipelineShape pipeline_shape(const Job& job) {
  return {job.parallelism.schedule, job.parallelism.pipeline, job.parallelism.virtual_pipeline,
          job.num_micro_batches()};
}

Seconds pipeline_seconds(const PipelineShape& shape, const std::vector<ChunkSeconds>& chunks,
                         const Transfers& transfers) {
  if (!shape.is_v_shaped()) return uneven_stages_seconds(shape, chunks, transfers);
  const PipelinePasses passes = pipeline_passes(shape);
  return simulate_pipeline(passes, pass_seconds(passes, chunks), transfers).total;
}

StepModel::StepModel(const Job& job, const Framework& framework, double k, const LoadByK& load)
    : job_(job),
      framework_(framework),
      load_(load),
      layers_(job, framework),
      pieces_(weight_pieces(job, framework)),
      embedding_(layers_.embedding()),
      head_(layers_.head()) {
  if (job.model.num_moe_layers() < job.model.num_layers) {
    dense_ = with_offload(layers_.dense_layer(), LayerKind::kDense, k);
  }
  if (job.model.num_moe_layers() > 0) moe_ = moe_layer(k);
  if (job.model.num_mtp_layers > 0) multi_token_ = layers_.multi_token(static_cast<double>(job.elastic.k_max));
}

// Kept activations go to the host while the layer runs forward and come back while it runs backward, each way hidden
// behind the layer's own time; no faster than the host's memory takes them.
LayerSeconds StepModel::with_offload(LayerSeconds layer, LayerKind kind, double k) const {
  if (job_.training.offload != Offload::kActivations) return layer;
  const double bytes = layer_bytes(job_, framework_, layers_.shapes(), kind, k, load_.at(k)).kept;
  const double transfer = host_seconds(job_.hardware, bytes, bytes);
  const auto host = static_cast<std::size_t>(TimeCause::kHost);
  layer.forward[host] += std::max(0.0, transfer - layer.forward_total());
  layer.backward[host] += std::max(0.0, transfer - layer.backward_total());
  return layer;
}

LayerSeconds StepModel::moe_layer(double k) const {
  return with_offload(layers_.moe_layer(k, load_.at(k)), LayerKind::kMoe, k);
}

ChunkWork StepModel::fixed_work(const StageChunk& chunk) const {
  ChunkWork work;
  if (const int64_t dense = chunk.num_dense_layers(job_.model)) {
    work.add(dense_, static_cast<double>(dense), static_cast<double>(recomputed_layers(job_, chunk).dense));
  }
  if (chunk.embedding) {
    work.add(embedding_, 1);
    work.ends += embedding_.step_total();
  }
  if (chunk.head) {
    work.add(head_, 1);
    work.ends += head_.step_total();
    if (job_.model.num_mtp_layers > 0) work.add(multi_token_, static_cast<double>(job_.model.num_mtp_layers));
  }
  LayerSeconds idle;
  const double host = framework_.operations ? 0 : framework_.time.host_per_micro_batch;
  idle.forward[static_cast<std::size_t>(TimeCause::kHost)] = host / 2;
  idle.backward = idle.forward;
  work.add(idle, 1);
  return work;
}

ChunkWork StepModel::work(const StageChunk& chunk) const {
  ChunkWork work = fixed_work(chunk);
  if (const int64_t moe = chunk.num_moe_layers(job_.model)) {
    work.add(moe_, static_cast<double>(moe), static_cast<double>(recomputed_layers(job_, chunk).moe));
  }
  return work;
}

StageSeconds StepModel::stages(const PipelineStages& stages) const {
  StageSeconds result;
  for (const auto& rank : stages) {
    for (const StageChunk& chunk : rank) {
      ChunkWork one = work(chunk);
      const ChunkSeconds seconds = joined(one, framework_.time);
      one.by_cause[static_cast<std::size_t>(TimeCause::kHost)] += (seconds.total() - one.device.total()).value;
      result.chunks.push_back(seconds);
      result.by_cause.push_back(one.by_cause);
    }
  }
  return result;
}

Seconds StepModel::transfer() const {
  if (job_.parallelism.pipeline <= 1) return Seconds{0};
  const RankGroups groups = rank_groups(job_.parallelism, job_.hardware.num_devices);
  const GroupPlacement pipeline = place(groups.pipeline, layers_.network().domains);
  const Bytes bytes{element_bytes(job_.training.precision) * layers_.shapes().split_tokens *
                    layers_.shapes().hidden_size};
  return send(layers_.network(), pipeline, bytes) * framework_.time.exposed_pipeline;
}

Transfers StepModel::transfers() const {
  Transfers transfers;
  if (job_.parallelism.pipeline <= 1) return transfers;
  transfers.mode = TransferMode::kBlocking;
  transfers.seconds.assign(static_cast<std::size_t>(job_.parallelism.pipeline), transfer());
  return transfers;
}

int64_t StepModel::sharded_copies() const {
  return job_.parallelism.zero_stage > 0 ? job_.parallelism.sharded_copies(job_.hardware) : 1;
}

// Up to stage 2 our trainer gathers what it has updated, the master weights.
double StepModel::gathered_bytes() const {
  const Precision precision = job_.training.precision;
  const bool masters = layers_.own() && job_.parallelism.zero_stage < 3;
  return masters ? accumulate_bytes(precision) : element_bytes(precision);
}

StepSync StepModel::sync(const PipelineStages& stages) const {
  const Job& job = job_;
  const Network& network = layers_.network();
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  StepSync sync{.copies = sharded_copies(), .gathered_bytes = gathered_bytes()};
  const DataGroups dense = data_groups(groups.data_context, sync.copies, network.domains);
  const DataGroups experts = data_groups(groups.expert_data, sync.copies, network.domains);
  sync.dense_shards = static_cast<double>(dense.shards.size);
  sync.expert_shards = static_cast<double>(experts.shards.size);
  int64_t num_others = 0;  // in groups that leave a node
  for (const GroupPlacement& group : {dense.shards, dense.copies}) {
    if (group.size > group.members[0]) num_others += group.size - 1;
  }
  std::vector<RankWeights> of_stages;
  for (const auto& chunks : stages) {
    of_stages.push_back(rank_weights(job, pieces_, chunks));
    int64_t layers_held = 0;
    for (const StageChunk& chunk : chunks) layers_held += chunk.num_layers;
    sync.latency =
        std::max(sync.latency, framework_.time.data_latency_per_layer * static_cast<double>(layers_held * num_others));
  }
  for (const RankWeights& weights : largest_only(of_stages)) {
    const auto seconds = [&](const DataGroups& of, double count) {
      return sync_seconds(job, framework_.time, network, of, count, sync.gathered_bytes);
    };
    sync.stages.push_back({weights, seconds(dense, weights.dense), seconds(experts, weights.expert)});
  }
  sync.unhidden = shared_embedding_seconds(job, network, pieces_, stages);
  if (layers_.own() && groups.world.size > 1) {  // the gradients' norm, and the report of the step
    sync.unhidden += 2 * all_reduce(network, place(groups.world, network.domains), Bytes{8}).value;
  }
  return sync;
}

ClusterStepTime StepModel::tail(const StepSync& sync, double pipeline_seconds, double backward) const {
  const Job& job = job_;
  const TimeParameters& time = framework_.time;
  const double bandwidth = job.hardware.spec.memory_bandwidth.value * time.memory_efficiency;
  double transfers = 0, optimizer = 0;
  for (const StepSync::Stage& stage : sync.stages) {
    transfers = std::max(transfers, step_total(stage.dense, job) + step_total(stage.expert, job));
    const double owned = job.parallelism.zero_stage >= 1
                             ? stage.weights.dense / sync.dense_shards + stage.weights.expert / sync.expert_shards
                             : stage.weights.total();
    optimizer =
        std::max(optimizer, layers_.own() ? layers_.own()->update(owned) : owned * time.optimizer_bytes / bandwidth);
    // The host updates: gradients go down, weights come back up (ZeRO-Offload, Ren et al. 2021, arXiv:2101.06840,
    // section 4.1), at the speed of the link, or of the host's memory, which all this passes, and master weights and
    // moments twice. Its arithmetic is taken to keep up.
    if (job.training.offload == Offload::kOptimizer) {
      const double moved = gradient_bytes(job) + element_bytes(job.training.precision);
      // Gradients are written and read.
      const double passed = 2 * optimizer_state_bytes(job, framework_) + gradient_bytes(job) + moved;
      optimizer = std::max(optimizer, host_seconds(job.hardware, owned * moved, owned * passed));
    }
  }
  ClusterStepTime tail;
  // With sharded gradients every micro-batch offers time to hide behind, else the last backward pass does.
  const double hideable = job.parallelism.zero_stage >= 2 ? pipeline_seconds : backward;
  const double exposed = job.training.overlap ? time.exposed_data : 1;
  transfers += sync.latency;
  tail.data_transfers = transfers - std::min((1 - exposed) * transfers, hideable) + sync.unhidden;
  tail.optimizer = optimizer;
  tail.fixed = fixed();
  tail.stragglers = (pipeline_seconds + tail.data_transfers + optimizer + tail.fixed) * straggler_share();
  return tail;
}

double StepModel::least_step(double pipeline_seconds) const {
  return (pipeline_seconds + fixed()) * (1 + straggler_share());
}

double StepModel::fixed() const {
  return framework_.operations ? framework_.operations->step_overhead : framework_.time.host_per_step;
}

// Of all else of a step.
double StepModel::straggler_share() const {
  const HardwareConfig& hardware = job_.hardware;
  const double nodes = static_cast<double>(hardware.num_devices) / static_cast<double>(hardware.devices_per_node);
  return framework_.time.straggler_per_doubling * std::log2(std::max(1.0, nodes));
}

ClusterStepTime StepModel::step(const PipelineStages& stages) const {
  const Job& job = job_;
  const StageSeconds seconds = this->stages(stages);
  const PipelineShape shape = pipeline_shape(job);
  const double pipeline = pipeline_seconds(shape, seconds.chunks, transfers()).value;
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
  ClusterStepTime step = tail(sync(stages), pipeline, backward);
  const auto micro_batches = static_cast<double>(job.num_micro_batches());
  for (std::size_t chunk = slowest * v; chunk < (slowest + 1) * v; ++chunk) {
    for (std::size_t i = 0; i < step.micro_batches.size(); ++i) {
      step.micro_batches[i] += micro_batches * seconds.by_cause[chunk][i];
    }
  }
  step.bubble = pipeline - total(step.micro_batches);
  return step;
}

ClusterStepTime cluster_step_time(const Job& job, const Framework& framework, double k, const LoadByK& load) {
  return StepModel(job, framework, k, load).step(pipeline_stages(job, framework));
}

}  // namespace mmoe
