#include "sim/cluster/memory_model.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "sim/cluster/step_time.h"
#include "sim/config/enum_names.h"
#include "sim/config/sections.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

constexpr double kRounding = 1e-9;   // of sums of bytes that are compared with a limit
constexpr double kUserBuffers = 10;  // of overlapped tensor-parallel transfers, one micro-batch's hidden states each

bool uses_transformer_engine(const Job& job) {
  // Local layers call it for their experts only.
  return !job.training.has_option("local_layers") || job.model.num_experts > 0;
}

double hidden_bytes(const RankShapes& s) { return s.element * s.split_tokens * s.hidden_size; }

double score_bytes(const Job& job, const RankShapes& s) {
  return job.training.attention_backend == AttentionBackend::kUnfused
             ? s.element * s.heads * s.sequences * s.seq_len * s.seq_len
             : 0;
}

// The sum over distinct shapes.
class DistinctShapes {
 public:
  void add(double rows, double columns) {
    const auto end = shapes_.begin() + static_cast<std::ptrdiff_t>(size_);
    const std::pair<double, double> shape(rows, columns);
    if (std::find(shapes_.begin(), end, shape) != end) return;
    shapes_[size_++] = shape;
    sum_ += rows * columns;
  }
  double sum() const { return sum_; }

 private:
  std::array<std::pair<double, double>, 12> shapes_;
  std::size_t size_ = 0;
  double sum_ = 0;
};

// What a rank holds, as bits.
constexpr std::size_t kDense = 1, kMoe = 2, kHead = 4;

// Elements of the weight shapes of a rank that holds these, each once.
double distinct_weights(const Job& job, const RankShapes& s, std::size_t held) {
  const ModelConfig& model = job.model;
  DistinctShapes shapes;
  const double D = s.hidden_size;
  const auto up = static_cast<double>(model.up_projections());
  if (model.attention == AttentionKind::kLatent) {
    const auto rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const auto rotated = static_cast<double>(model.qk_rope_head_dim);
    if (rank_q > 0) shapes.add(rank_q, D);
    shapes.add(rank_kv + rotated, D);
    shapes.add(s.query_size, rank_q > 0 ? rank_q : D);
    shapes.add(s.heads * (s.head_dim - rotated) + s.attention_output_size, rank_kv);
    shapes.add(D, s.attention_output_size);
  } else {
    shapes.add(s.query_size + 2 * s.kv_size, D);
    shapes.add(D, s.query_size);
  }
  const auto feed_forward = [&](double width) {
    if (width == 0) return;
    shapes.add(up * width, D);
    shapes.add(D, width);
  };
  if (held & kDense) feed_forward(s.dense_hidden_size);
  if (held & kMoe) {
    feed_forward(s.expert_hidden_size);
    feed_forward(s.shared_expert_hidden_size);
  }
  if (held & kHead) shapes.add(s.vocabulary, D);
  return shapes.sum();
}

double over(const RankWeights& weights, bool sharded, const StateShards& by) {
  return sharded ? weights.dense / by.dense + weights.expert / by.expert : weights.total();
}

// Chunks of a rank in flight. Forward passes take the chunks in turns, a pipeline's width of micro-batches each;
// backward passes the other way round.
struct Turns {
  int64_t p, v, all;  // pipeline, virtual pipeline, chunks in flight
  int64_t of(int64_t passes, int64_t place) const {
    return passes / (p * v) * p + std::clamp<int64_t>(passes % (p * v) - place * p, 0, p);
  }
  int64_t in_flight(int64_t chunk, int64_t backwards) const {
    return of(all + backwards, chunk) - of(backwards, v - 1 - chunk);
  }
};

// After how many backward passes the chunks in flight keep most, each `kept` a micro-batch. Their number stays the
// same, their mix changes linearly between the turns of either kind of pass, so the most lies at a turn.
int64_t heaviest_moment(const Turns& turns, const std::vector<double>& kept, int64_t num_micro_batches) {
  const double first = kept.front();
  if (std::all_of(kept.begin(), kept.end(), [&](double bytes) { return bytes == first; })) return 0;
  const int64_t steady = std::max<int64_t>(0, num_micro_batches * turns.v - turns.all);
  int64_t best = 0;
  double most = 0;
  for (int64_t turn = 0; turn < 2 * turns.v; ++turn) {
    const int64_t own = turn / 2 * turns.p, theirs = own + (turns.p - turns.all % turns.p) % turns.p;
    const int64_t backwards = std::min(turn % 2 == 0 ? own : theirs, steady);
    double bytes = 0;
    for (int64_t i = 0; i < turns.v; ++i) {
      bytes += kept[static_cast<std::size_t>(i)] * static_cast<double>(turns.in_flight(i, backwards));
    }
    if (bytes <= most) continue;
    most = bytes;
    best = backwards;
  }
  return best;
}

}  // namespace

StateShards state_shards(const Job& job) {
  const auto copies = static_cast<double>(job.parallelism.sharded_copies(job.hardware));
  const auto data = static_cast<double>(job.data_parallel_size() * job.parallelism.context);
  const auto expert_data = static_cast<double>(job.parallelism.expert_data(job.hardware));
  return {data / copies, std::max(1.0, expert_data / copies)};
}

double optimizer_state_bytes(const Job& job, const Framework& framework) {
  const double halved = job.training.optimizer_precision == Precision::kBf16 ? 2 : 1;
  const double bytes = framework.memory.master_and_moments / halved;
  const double element = element_bytes(job.training.precision);
  return element < 4 ? bytes : (bytes - 4) * element / 4;  // weights are their own master
}

Bytes allocatable_memory(const Job& job, const Framework& framework) {
  return job.hardware.usable_memory - Bytes{job.hardware.spec.is_cpu ? 0 : framework.memory.context_bytes};
}

bool host_holds(const Job& job, Bytes offloaded) {
  const Bytes most = job.hardware.cluster_spec.host_memory;
  return most.value == 0 || offloaded <= most;
}

MemoryModel::MemoryModel(const Job& job, const Framework& framework, double k, double rows_factor)
    : job_(job),
      memory_(framework.memory),
      s_(rank_shapes(job, framework)),
      pieces_(weight_pieces(job, framework)),
      whole_model_(rank_weights(job, pieces_, {{.num_layers = job.model.num_layers, .embedding = true, .head = true}})),
      hidden_(hidden_bytes(s_)),
      scores_(score_bytes(job, s_)) {
  const ModelConfig& model = job.model;
  const TrainingConfig& training = job.training;
  if (!training.freeze.empty()) {
    throw ConfigError(about(job.where, "training.freeze", training.freeze.front()) +
                      "is predicted for one device, and for CPU ranks, of this project's trainer alone; leave it out");
  }
  const bool has_moe = model.num_moe_layers() > 0;
  if (model.num_moe_layers() < model.num_layers) {
    dense_ = layer_bytes(job, framework, s_, LayerKind::kDense, k, rows_factor);
  }
  if (has_moe) moe_ = layer_bytes(job, framework, s_, LayerKind::kMoe, k, rows_factor);
  expert_rows_ = has_moe ? expert_rows(job, framework, s_, k, rows_factor) : 0;

  const bool fp16 = training.precision == Precision::kFp16;
  weight_bytes_ = s_.element;
  // Micro-batches of fp16 runs are summed in fp16.
  gradient_bytes_ = (fp16 ? 2 : element_bytes(training.gradient_precision)) + memory_.extra_gradient_bytes;
  state_bytes_ = optimizer_state_bytes(job, framework);
  offloaded_state_bytes_ =
      training.offload == Offload::kOptimizer ? state_bytes_ + element_bytes(training.gradient_precision) : 0;
  if (offloaded_state_bytes_ > 0) state_bytes_ = 0;
  stand_ins_ = training.has_option("gradient_accumulation_fusion") && !fp16 ? memory_.stand_in_gradients : 0;
  for (std::size_t held = 0; held < distinct_weights_.size() && stand_ins_ > 0; ++held) {
    distinct_weights_[held] = distinct_weights(job, s_, held);
  }

  const bool any_experts = model.num_experts > 0;
  workspaces_ = 2 * (training.has_option("large_matrix_workspace") ? 33554432.0 : memory_.matrix_workspace);
  if (uses_transformer_engine(job)) {
    const bool grouped = any_experts && training.has_option("grouped_gemm");
    workspaces_ += memory_.engine_workspace * (1 + (grouped ? memory_.grouped_workspaces : 0));
    if (training.has_option("tensor_overlap")) {
      workspaces_ += 2 * memory_.engine_workspace + kUserBuffers * s_.element * s_.hidden_size * s_.tokens;
    }
  }
  shared_buffer_ = job.parallelism.sequence && job.parallelism.tensor > 1 ? s_.element * s_.tokens * s_.hidden_size : 0;
  if (any_experts && training.moe.dispatcher == DispatcherKind::kAllGather) {
    const auto ranks = static_cast<double>(job.parallelism.expert * job.parallelism.expert_tensor);
    shared_buffer_ = std::max(shared_buffer_, hidden_ * ranks);
  }
  if (training.has_option("local_layers")) shared_buffer_ = std::max(shared_buffer_, scores_);
  shared_buffer_ *= memory_.global_buffer;

  const double logits = s_.head_tokens * s_.vocabulary;
  const bool fused = training.has_option("fused_cross_entropy");
  loss_ = 2 * hidden_ + logits * (fused ? memory_.fused_logit_bytes : memory_.logit_bytes) + (fused ? 2 * hidden_ : 0);
  if (model.num_mtp_layers > 0) {
    const double layer = (has_moe ? moe_ : dense_).kept + 4 * hidden_;
    loss_ += static_cast<double>(model.num_mtp_layers) * (layer + 4 * logits);
  }
  if (training.has_option("deferred_embedding_gradients")) {
    loss_ += 2 * s_.element * logits + s_.element * s_.vocabulary * s_.hidden_size;
  }
  accumulated_loss_ = memory_.accumulated_logit_bytes * logits;

  mask_ = training.has_option("attention_mask") ? s_.sequences * s_.seq_len * s_.seq_len : 0;
  // Where gathered inputs are kept for the backward pass, all wait for it; else the first two micro-batches' do not.
  spared_ = training.has_option("keep_gathered_inputs") ? 0 : 2;
  keeps_activations_ = training.offload != Offload::kActivations;
  gathered_ = keeps_activations_ ? gathered_input_bytes(job, s_) : 0;
  const double flops = 2 * s_.tokens * pieces_.last_layer.dense + 2 * expert_rows_ *
                                                                      static_cast<double>(model.up_projections() + 1) *
                                                                      s_.hidden_size * s_.expert_hidden_size;
  const double lag = flops / memory_.run_ahead_flops;
  run_ahead_ = gathered_ > 0 ? memory_.run_ahead_micro_batches * lag * lag / (1 + lag * lag) : 0;
}

double MemoryModel::loss() const { return loss_ + (job_.num_micro_batches() > 1 ? accumulated_loss_ : 0); }

double MemoryModel::queued(const std::vector<StageChunk>& chunks, const std::vector<int64_t>& in_flight, double kept,
                           int64_t most_in_flight) const {
  double layers = 0;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    layers += static_cast<double>(std::max<int64_t>(in_flight[i] - spared_, 0) * chunks[i].num_layers);
  }
  const double gathers = std::min(memory_.pending_gathers * layers, memory_.pending_limit) * gathered_;
  const bool more_come = job_.num_micro_batches() * job_.parallelism.virtual_pipeline > most_in_flight;
  const bool runs_ahead = more_come && spared_ > 0 && job_.parallelism.pipeline > 1;
  return gathers + (runs_ahead ? run_ahead_ * kept / static_cast<double>(most_in_flight) : 0);
}

double MemoryModel::waiting(double queued, double needed, Bytes cached) const {
  // Before it reports that memory is out, the allocator waits for queued blocks and gives back those that are cached.
  const double usable = (job_.hardware.spec.memory.value - memory_.context_bytes) * (1 - kRounding);
  return needed + queued <= usable ? queued : std::max(usable - needed, -cached.value);
}

RankStatic MemoryModel::held(const RankContents& contents, const StateShards& shards) const {
  const ParallelismConfig& parallelism = job_.parallelism;
  const RankWeights& weights = contents.weights;
  RankStatic held;
  held.weights = Bytes{weight_bytes_ * over(weights, parallelism.zero_stage >= 3, shards)};
  held.gradients = Bytes{gradient_bytes_ * over(weights, parallelism.zero_stage >= 2, shards)};
  held.cached = Bytes{memory_.extra_gradient_bytes * over(weights, parallelism.zero_stage >= 2, shards)};
  held.optimizer = Bytes{state_bytes_ * over(weights, parallelism.zero_stage >= 1, shards)};
  held.workspaces = Bytes{workspaces_};
  double buffers = memory_.constant_bytes + shared_buffer_;
  buffers += stand_ins_ * s_.element * contents.distinct_weights;
  if (parallelism.context > 1 && parallelism.context_kind == ContextKind::kRing) {
    buffers += 4 * s_.element * s_.kv_size * s_.tokens;  // keys and values of two ranks
  }
  if (job_.data_parallel_size() > 1) {
    buffers += (memory_.data_parallel_buffer + (parallelism.pipeline > 1 ? memory_.pipeline_data_buffer : 0)) *
               weights.total();
  }
  if (parallelism.pipeline > 1) {
    buffers += memory_.pipeline_leftovers * static_cast<double>(2 * parallelism.virtual_pipeline + 1) * hidden_;
  }
  held.buffers = Bytes{buffers};
  return held;
}

Bytes MemoryModel::host(const RankContents& contents, const StateShards& shards) const {
  if (offloaded_state_bytes_ == 0) return Bytes{contents.offloaded};
  return Bytes{offloaded_state_bytes_ * over(contents.weights, job_.parallelism.zero_stage >= 1, shards)};
}

double MemoryModel::kept_by_chunk(const StageChunk& chunk) const {
  return keeps_activations_ ? activations_of_chunk(chunk) : 0;
}

double MemoryModel::activations_of_chunk(const StageChunk& chunk) const {
  const auto dense_layers = static_cast<double>(chunk.num_dense_layers(job_.model));
  const auto moe_layers = static_cast<double>(chunk.num_moe_layers(job_.model));
  double bytes = dense_layers * dense_.kept + moe_layers * moe_.kept;
  if (job_.training.recompute.full) {
    const RecomputedLayers recomputed = recomputed_layers(job_, chunk);
    bytes += (dense_layers - static_cast<double>(recomputed.dense)) * (dense_.whole - dense_.kept) +
             (moe_layers - static_cast<double>(recomputed.moe)) * (moe_.whole - moe_.kept);
  }
  return bytes;
}

double MemoryModel::dropout_masks(const std::vector<StageChunk>& chunks) const {
  if (job_.training.hidden_dropout == 0 || !keeps_activations_) return 0;
  const bool embedding =
      std::any_of(chunks.begin(), chunks.end(), [](const StageChunk& chunk) { return chunk.embedding; });
  return embedding ? s_.split_tokens * s_.hidden_size : 0;
}

double MemoryModel::kept_always(const RankContents& contents) const {
  // Of offloaded activations, those of one layer are on their way while the next one works (Transformer Engine,
  // cpu_offload.py: two buffers in turns).
  const double on_their_way = keeps_activations_ ? 0 : 2 * std::max(dense_.kept, moe_.kept);
  if (job_.parallelism.zero_stage < 3) return mask_ + on_their_way;
  // Gathered: tables, the layer at work and the next one.
  return mask_ + on_their_way + s_.element * ((contents.table ? pieces_.table : 0) + 2 * pieces_.last_layer.total());
}

double MemoryModel::backward_work(const std::vector<StageChunk>& chunks) const {
  bool embedding = false, last_is_moe = false, any_layer = false;
  for (const StageChunk& chunk : chunks) {
    embedding |= chunk.embedding;
    if (chunk.num_layers == 0) continue;
    any_layer = true;
    last_is_moe = chunk.num_moe_layers(job_.model) > 0;
  }
  if (!any_layer) return 0;
  const auto up = static_cast<double>(job_.model.up_projections());
  double backward;
  if (last_is_moe) {
    backward = memory_.expert_backward_buffers * s_.element * expert_rows_ * s_.hidden_size +
               s_.element * expert_rows_ * (up + 1) * s_.expert_hidden_size + hidden_;
  } else {
    backward = memory_.backward_work_factor * s_.element * s_.tokens * up * s_.dense_hidden_size + hidden_;
  }
  // Gradients of the probabilities and of the scores.
  if (scores_ > 0) backward = std::max(backward, 2 * scores_ + hidden_);
  const LayerBytes& last = last_is_moe ? moe_ : dense_;
  backward += job_.training.recompute.full ? last.whole : last.again;
  if (embedding) backward += memory_.embedding_gradient_bytes * pieces_.table;
  return backward;
}

RankContents MemoryModel::contents(const std::vector<StageChunk>& chunks, int64_t rank) const {
  RankContents contents;
  contents.weights = rank_weights(job_, pieces_, chunks);
  const PipelineShape shape = pipeline_shape(job_);
  const Turns turns{shape.pipeline, shape.virtual_pipeline, chunks_in_flight(shape, rank).total()};
  static thread_local std::vector<double> kept;  // both reused, as a search asks a million times a second
  static thread_local std::vector<int64_t> in_flight;
  kept.clear();
  in_flight.clear();
  for (const StageChunk& chunk : chunks) kept.push_back(kept_by_chunk(chunk));
  const bool changes = turns.v > 1 && !shape.is_v_shaped();
  const int64_t backwards = changes ? heaviest_moment(turns, kept, shape.num_micro_batches) : 0;
  const double masks = dropout_masks(chunks);
  bool head = false, last_is_moe = false;
  std::size_t held = 0;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const StageChunk& chunk = chunks[i];
    const bool has_moe = chunk.num_moe_layers(job_.model) > 0;
    held |= (chunk.num_dense_layers(job_.model) > 0 ? kDense : 0) | (has_moe ? kMoe : 0) | (chunk.head ? kHead : 0);
    in_flight.push_back(turns.in_flight(static_cast<int64_t>(i), backwards));
    contents.in_flight += static_cast<double>(in_flight.back()) * (kept[i] + masks);
    if (!keeps_activations_) {
      contents.offloaded += static_cast<double>(in_flight.back()) * activations_of_chunk(chunk);
    }
    head |= chunk.head;
    contents.table |= chunk.embedding || chunk.head;
    if (chunk.num_layers > 0) last_is_moe = has_moe;
  }
  contents.distinct_weights = distinct_weights_[held];
  contents.queued = queued(chunks, in_flight, contents.in_flight, turns.all);
  // Two moments compete: the loss, and the backward pass of the stage's last layer.
  const double backward = backward_work(chunks);
  const double at_loss = loss();
  if (head && at_loss >= backward) {
    contents.logits = at_loss;
    contents.moment = "loss head";
  } else {
    contents.transient = backward;
    contents.moment = last_is_moe ? "backward of a MoE layer" : "backward of a dense layer";
  }
  return contents;
}

RankMemory MemoryModel::rank(const RankContents& contents, const StateShards& shards) const {
  const TrainingConfig& training = job_.training;
  RankMemory result;
  result.held = held(contents, shards);
  result.static_bytes = result.held.total();
  // fp16 runs hold fp32 copies of the gradients from the optimiser's step to the next one's first backward pass.
  if (training.precision == Precision::kFp16 && training.offload != Offload::kOptimizer) {
    result.static_bytes += Bytes{4 * over(contents.weights, job_.parallelism.zero_stage >= 1, shards)};
  }
  result.logits = Bytes{contents.logits};
  result.transient = Bytes{contents.transient};
  result.moment = contents.moment;
  const double activations = kept_always(contents) + contents.in_flight;
  const double needed = (result.held.total() + result.logits + result.transient).value + activations;
  result.activations = Bytes{activations + waiting(contents.queued, needed, result.held.cached)};
  result.peak_allocated = result.held.total() + result.activations + result.logits + result.transient;
  // Short-lived tensors that are not modelled one by one leave holes; expandable segments give them back.
  const bool holes = job_.hardware.allocator == AllocatorKind::kDefault;
  result.peak_reserved = result.peak_allocated * (1 + (holes ? memory_.reserved_excess : 0));
  result.host = host(contents, shards);
  return result;
}

Bytes MemoryModel::least_peak(const StateShards& shards) const {
  // Whatever is linear in the weights is on some rank at least what the mean of them gives.
  const auto ranks = static_cast<double>(job_.parallelism.pipeline);
  RankContents mean;
  mean.weights = {whole_model_.dense / ranks, whole_model_.expert / ranks};
  return rank(mean, shards).peak_reserved * (1 - kRounding);
}

std::vector<RankMemory> cluster_memory(const Job& job, const Framework& framework, double k, double rows_factor) {
  const MemoryModel model(job, framework, k, rows_factor);
  const PipelineStages stages = pipeline_stages(job, framework);
  std::vector<RankMemory> ranks;
  for (std::size_t rank = 0; rank < stages.size(); ++rank) {
    ranks.push_back(model.rank(stages[rank], static_cast<int64_t>(rank)));
  }
  return ranks;
}

}  // namespace mmoe
