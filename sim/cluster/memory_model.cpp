#include "sim/cluster/memory_model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "sim/cluster/step_time.h"
#include "sim/config/enum_names.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

constexpr double kElement = 2;
constexpr double kUserBuffers = 10;  // of overlapped tensor-parallel transfers, one micro-batch's hidden states each

double precision_bytes(Precision precision) {
  return precision == Precision::kFp64 ? 8 : precision == Precision::kFp32 ? 4 : 2;
}

bool uses_transformer_engine(const Job& job) {
  // Local layers call it for their experts only.
  return !job.training.has_option("local_layers") || job.model.num_experts > 0;
}

double hidden_bytes(const RankShapes& s) { return kElement * s.split_tokens * s.hidden_size; }

double score_bytes(const Job& job, const RankShapes& s) {
  return job.training.attention_backend == AttentionBackend::kUnfused
             ? kElement * s.heads * s.sequences * s.seq_len * s.seq_len
             : 0;
}

// Weight shapes of a rank, each once.
double distinct_weights(const Job& job, const RankShapes& s, const std::vector<StageChunk>& chunks) {
  const ModelConfig& model = job.model;
  std::set<std::pair<double, double>> shapes;
  const double D = s.hidden_size;
  const auto up = static_cast<double>(model.up_projections());
  if (model.attention == AttentionKind::kLatent) {
    const auto rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const auto rotated = static_cast<double>(model.qk_rope_head_dim);
    if (rank_q > 0) shapes.emplace(rank_q, D);
    shapes.emplace(rank_kv + rotated, D);
    shapes.emplace(s.query_size, rank_q > 0 ? rank_q : D);
    shapes.emplace(s.heads * (s.head_dim - rotated) + s.attention_output_size, rank_kv);
    shapes.emplace(D, s.attention_output_size);
  } else {
    shapes.emplace(s.query_size + 2 * s.kv_size, D);
    shapes.emplace(D, s.query_size);
  }
  bool dense = false, moe = false, head = false;
  for (const StageChunk& chunk : chunks) {
    dense |= chunk.num_dense_layers(model) > 0;
    moe |= chunk.num_moe_layers(model) > 0;
    head |= chunk.head;
  }
  const auto feed_forward = [&](double width) {
    if (width == 0) return;
    shapes.emplace(up * width, D);
    shapes.emplace(D, width);
  };
  if (dense) feed_forward(s.dense_hidden_size);
  if (moe) {
    feed_forward(s.expert_hidden_size);
    feed_forward(s.shared_expert_hidden_size);
  }
  if (head) shapes.emplace(s.vocabulary, D);
  double sum = 0;
  for (const auto& [rows, columns] : shapes) sum += rows * columns;
  return sum;
}

struct Shards {
  double dense = 1, expert = 1;  // ranks that share one copy
};

Shards shards(const Job& job) {
  const auto data = static_cast<double>(job.data_parallel_size() * job.parallelism.context);
  const auto expert_data = static_cast<double>(job.parallelism.expert_data(job.hardware));
  const auto limit = static_cast<double>(job.parallelism.zero_group);
  const auto limited = [&](double size) { return std::max(1.0, limit > 0 ? std::min(size, limit) : size); };
  return {limited(data), limited(expert_data)};
}

double over(const RankWeights& weights, bool sharded, const Shards& by) {
  return sharded ? weights.dense / by.dense + weights.expert / by.expert : weights.total();
}

// Micro-batches of each chunk in flight at the rank's highest: first chunks fill first, a pipeline's width of
// micro-batches each.
std::vector<double> in_flight_by_chunk(const Job& job, int64_t rank, std::size_t num_chunks) {
  int64_t left = chunks_in_flight(pipeline_shape(job), rank).total();
  std::vector<double> counts;
  for (std::size_t i = 0; i < num_chunks; ++i) {
    const int64_t here = i + 1 == num_chunks ? left : std::min(left, job.parallelism.pipeline);
    left -= here;
    counts.push_back(static_cast<double>(here));
  }
  return counts;
}

// A job whose layers are recomputed whole (`full`) or kept.
Job with_full_recompute(const Job& job, bool full) {
  Job other = job;
  other.training.recompute.full = full;
  return other;
}

}  // namespace

RankStatic rank_static(const Job& job, const Framework& framework, const PipelineStages& stages, int64_t rank) {
  const MemoryConventions& memory = framework.memory;
  const TrainingConfig& training = job.training;
  const ParallelismConfig& parallelism = job.parallelism;
  const RankShapes s = rank_shapes(job, framework);
  const std::vector<StageChunk>& chunks = stages[static_cast<std::size_t>(rank)];
  const RankWeights weights = rank_weights(job, framework, chunks);
  const Shards by = shards(job);
  const bool fp16 = training.precision == Precision::kFp16;
  RankStatic held;
  held.weights =
      Bytes{(training.precision == Precision::kFp32 ? 4 : kElement) * over(weights, parallelism.zero_stage >= 3, by)};
  // Micro-batches of fp16 runs are summed in fp16.
  const double gradient = fp16 ? 2 : precision_bytes(training.gradient_precision);
  held.gradients = Bytes{gradient * over(weights, parallelism.zero_stage >= 2, by) +
                         memory.extra_gradient_bytes * over(weights, parallelism.zero_stage >= 2, by)};
  double state = memory.master_and_moments;
  if (training.optimizer_precision == Precision::kBf16) state /= 2;
  if (training.precision == Precision::kFp32) state -= 4;  // weights are their own master
  if (training.offload == "optimizer") state = 0;
  held.optimizer = Bytes{state * over(weights, parallelism.zero_stage >= 1, by)};

  const bool moe = job.model.num_experts > 0;
  double workspaces = 2 * (training.has_option("large_matrix_workspace") ? 33554432.0 : memory.matrix_workspace);
  if (uses_transformer_engine(job)) {
    workspaces +=
        memory.engine_workspace * (1 + (moe && training.has_option("grouped_gemm") ? memory.grouped_workspaces : 0));
    if (training.has_option("tensor_overlap")) {
      workspaces += 2 * memory.engine_workspace + kUserBuffers * kElement * s.hidden_size * s.tokens;
    }
  }
  held.workspaces = Bytes{workspaces};

  double buffers = memory.constant_bytes;
  if (memory.stand_in_gradients > 0 && training.has_option("gradient_accumulation_fusion") && !fp16) {
    buffers += memory.stand_in_gradients * kElement * distinct_weights(job, s, chunks);
  }
  if (parallelism.context > 1 && parallelism.context_kind == ContextKind::kRing) {
    buffers += 4 * kElement * s.kv_size * s.tokens;  // keys and values of two ranks
  }
  if (job.data_parallel_size() > 1) buffers += memory.data_parallel_buffer * weights.total();
  if (memory.global_buffer > 0) {
    double shared = parallelism.sequence && parallelism.tensor > 1 ? kElement * s.tokens * s.hidden_size : 0;
    if (moe && training.moe.dispatcher == DispatcherKind::kAllGather) {
      shared = std::max(shared, hidden_bytes(s) * static_cast<double>(parallelism.expert * parallelism.expert_tensor));
    }
    if (training.has_option("local_layers")) shared = std::max(shared, score_bytes(job, s));
    buffers += memory.global_buffer * shared;
  }
  if (parallelism.pipeline > 1) {
    buffers += memory.pipeline_leftovers * static_cast<double>(2 * parallelism.virtual_pipeline + 1) * hidden_bytes(s);
  }
  held.buffers = Bytes{buffers};
  return held;
}

std::vector<RankMemory> cluster_memory(const Job& job, const Framework& framework, double k, double rows_factor) {
  const ModelConfig& model = job.model;
  const TrainingConfig& training = job.training;
  const MemoryConventions& memory = framework.memory;
  const RankShapes s = rank_shapes(job, framework);
  const PipelineStages stages = pipeline_stages(job, framework);
  const Shards by = shards(job);
  const double hidden = hidden_bytes(s);
  const bool full = training.recompute.full;
  const Job kept_job = with_full_recompute(job, false);
  const auto tensors = [&](const Job& of, LayerKind kind) {
    return layer_tensors(of, framework, s, kind, k, rows_factor);
  };
  struct LayerBytes {
    double kept = 0, again = 0, whole = 0;  // kept; made again by modules; kept where nothing is recomputed
  };
  const auto layer_bytes = [&](LayerKind kind) {
    const std::vector<KeptTensor> list = tensors(job, kind);
    const std::vector<KeptTensor> plain = tensors(kept_job, kind);
    return LayerBytes{kept_bytes(list), recomputed_bytes(list), kept_bytes(plain)};
  };
  const bool has_dense = model.num_moe_layers()<model.num_layers, has_moe = model.num_moe_layers()> 0;
  const LayerBytes dense = has_dense ? layer_bytes(LayerKind::kDense) : LayerBytes{};
  const LayerBytes moe = has_moe ? layer_bytes(LayerKind::kMoe) : LayerBytes{};
  const double offloaded = training.offload == "activations" ? 0 : 1;

  std::vector<RankMemory> ranks;
  for (int64_t rank = 0; rank < static_cast<int64_t>(stages.size()); ++rank) {
    const std::vector<StageChunk>& chunks = stages[static_cast<std::size_t>(rank)];
    const RankWeights weights = rank_weights(job, framework, chunks);
    RankMemory result;
    result.held = rank_static(job, framework, stages, rank);
    result.static_bytes = result.held.total();
    // fp16 runs hold fp32 copies of the gradients from the optimiser's step to the next one's first backward pass.
    if (training.precision == Precision::kFp16 && training.offload != "optimizer") {
      result.static_bytes += Bytes{4 * over(weights, job.parallelism.zero_stage >= 1, by)};
    }
    const std::vector<double> in_flight = in_flight_by_chunk(job, rank, chunks.size());
    double activations = 0, total_in_flight = 0;
    bool head = false, embedding = false, last_is_moe = false, any_layer = false;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      const StageChunk& chunk = chunks[i];
      auto dense_layers = static_cast<double>(chunk.num_dense_layers(model));
      auto moe_layers = static_cast<double>(chunk.num_moe_layers(model));
      double chunk_bytes = dense_layers * dense.kept + moe_layers * moe.kept;
      if (full && training.recompute.num_layers > 0) {  // only the first ones of each chunk
        const double of_dense = std::min(dense_layers, static_cast<double>(training.recompute.num_layers));
        const double of_moe = std::min(moe_layers, static_cast<double>(training.recompute.num_layers) - of_dense);
        chunk_bytes +=
            (dense_layers - of_dense) * (dense.whole - dense.kept) + (moe_layers - of_moe) * (moe.whole - moe.kept);
      }
      activations += in_flight[i] * chunk_bytes;
      total_in_flight += in_flight[i];
      head |= chunk.head;
      embedding |= chunk.embedding;
      if (chunk.num_layers > 0) {
        any_layer = true;
        last_is_moe = chunk.num_moe_layers(model) > 0;
      }
    }
    if (embedding && training.hidden_dropout > 0) activations += s.split_tokens * s.hidden_size * total_in_flight;
    if (job.parallelism.sequence && job.parallelism.tensor > 1 &&
        job.parallelism.tensor <= job.hardware.devices_per_node) {
      double layers_in_flight = 0;
      for (std::size_t i = 0; i < chunks.size(); ++i)
        layers_in_flight += in_flight[i] * static_cast<double>(chunks[i].num_layers);
      activations += memory.pending_gathers * kElement * s.tokens * s.hidden_size * layers_in_flight;
    }
    result.activations = Bytes{activations * offloaded};
    if (training.has_option("attention_mask")) {
      result.activations += Bytes{s.sequences * s.seq_len * s.seq_len};
    }
    if (job.parallelism.zero_stage >= 3) {  // gathered: tables, the layer at work and the next one
      const RankWeights layer = layer_weights(job, framework, model.num_layers - 1);
      const double table = embedding || head ? s.vocabulary * s.hidden_size : 0;
      result.activations += Bytes{kElement * (table + 2 * layer.total())};
    }
    // Two moments compete: the loss, and the backward pass of the stage's last layer.
    double loss = 0;
    if (head) {
      const double logits = s.tokens * s.vocabulary;
      const bool fused = training.has_option("fused_cross_entropy");
      loss = 2 * hidden + logits * (fused ? memory.fused_logit_bytes : memory.logit_bytes) + (fused ? 2 * hidden : 0);
      if (model.num_mtp_layers > 0) {
        const double layer = (has_moe ? moe : dense).kept + 4 * hidden;
        loss += static_cast<double>(model.num_mtp_layers) * (layer + 4 * logits);
      }
      if (training.has_option("deferred_embedding_gradients")) {
        loss += 2 * kElement * logits + kElement * s.vocabulary * s.hidden_size;
      }
    }
    double backward = 0;
    if (any_layer) {
      const auto up = static_cast<double>(model.up_projections());
      if (last_is_moe) {
        const double rows = expert_rows(job, framework, s, k, rows_factor);
        backward = memory.expert_backward_buffers * kElement * rows * s.hidden_size +
                   kElement * rows * (up + 1) * s.expert_hidden_size + hidden;
      } else {
        backward = memory.backward_work_factor * kElement * s.tokens * up * s.dense_hidden_size + hidden;
      }
      if (training.attention_backend == AttentionBackend::kUnfused)
        backward = std::max(backward, 2 * score_bytes(job, s) + hidden);
      const LayerBytes& last = last_is_moe ? moe : dense;
      backward += full ? last.whole : last.again;
      if (embedding) backward += memory.embedding_gradient_bytes * s.vocabulary * s.hidden_size;
    }
    if (head && loss >= backward) {
      result.logits = Bytes{loss};
      result.moment = "loss head";
    } else {
      result.transient = Bytes{backward};
      result.moment = last_is_moe ? "backward of a MoE layer" : "backward of a dense layer";
    }
    result.peak_allocated = result.held.total() + result.activations + result.logits + result.transient;
    result.peak_reserved = result.peak_allocated;
    ranks.push_back(std::move(result));
  }
  return ranks;
}

}  // namespace mmoe
