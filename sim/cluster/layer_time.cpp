#include "sim/cluster/layer_time.h"

#include <algorithm>
#include <cmath>

#include "sim/formulas/model_flops.h"
#include "sim/formulas/routed_nodes.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Least elementwise traffic, in elements. Forward; the backward pass is a factor of it (TimeParameters).
constexpr double kNormAndResidual = 8;  // two norms and two residual additions, each read and written, hidden_size wide
constexpr double kRotary = 4;           // queries and keys read and written, of each of their two halves
constexpr double kPermuteRows = 4;      // experts' rows read and written when permuted and when put back
// A flash backward has five products for the forward's two. Source: Dao 2023 (arXiv:2307.08691), section 3.
constexpr double kFlashBackward = 2.5;
// What plain operations pass over the scores, in 2-byte elements, beyond one fused kernel: a cast to 4 bytes, scale,
// mask, softmax, a cast back (18 for 2); the gradients of these (20 for 3).
constexpr double kPlainSoftmaxPasses = 16, kPlainSoftmaxBackwardPasses = 17;

double& part(SecondsByCause& seconds, TimeCause cause) { return seconds[static_cast<std::size_t>(cause)]; }

double weight_bytes(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return 4;
    case Precision::kFp8:
      return 1;
    case Precision::kFp4:
      return 0.5;
    default:
      return 2;
  }
}

bool is_narrow(Precision precision) { return precision == Precision::kFp8 || precision == Precision::kFp4; }

// Whether Megatron's fused kernel of scale, mask and softmax takes these scores; else plain operations run. Source:
// megatron/model/fused_softmax.py, is_kernel_available (four rows of scores a block).
bool has_fused_softmax(double score_matrices, double seq_len, Precision precision) {
  return precision != Precision::kFp32 && seq_len > 16 && seq_len <= 4096 && std::fmod(seq_len, 4) == 0 &&
         std::fmod(score_matrices, 4) == 0;
}

}  // namespace

void LayerTimes::Work::add_elementwise(double seconds, double backward_factor) {
  part(forward, TimeCause::kElementwise) += seconds;
  part(backward, TimeCause::kElementwise) += backward_factor * seconds;
}

LayerTimes::LayerTimes(const Job& job, const Framework& framework)
    : job_(job),
      time_(framework.time),
      shapes_(rank_shapes(job, framework)),
      dense_weights_(layer_weights(job, framework, 0)),
      moe_weights_(layer_weights(job, framework, job.model.num_layers - 1)),
      network_(make_network(job.hardware, framework.network)),
      bandwidth_(job.hardware.spec.memory_bandwidth.value * framework.time.memory_efficiency),
      bf16_peak_(peak_of(job.hardware.spec, job.training.precision == Precision::kFp32   ? Precision::kFp32
                                            : job.training.precision == Precision::kFp16 ? Precision::kFp16
                                                                                         : Precision::kBf16)
                     .value),
      element_(element_bytes(job.training.precision)) {
  if (framework.operations) own_.emplace(job, *framework.operations);
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  tensor_ = place(groups.tensor, network_.domains);
  context_ = place(groups.context, network_.domains);
  expert_ = place(groups.expert, network_.domains);
  expert_tensor_ = place(groups.expert_tensor, network_.domains);
  attention_half_ = attention_half();
}

double LayerTimes::product_seconds(const Product& p, Precision precision, bool grouped) const {
  if (p.rows <= 0 || p.columns <= 0 || p.inner <= 0 || p.count <= 0) return 0;
  double rate = bf16_peak_ * time_.gemm_efficiency;
  if (precision == Precision::kFp8) {
    rate = job_.hardware.spec.peak_fp8.value * time_.gemm_efficiency * time_.fp8_efficiency;
    if (job_.training.has_option("row_scales")) rate *= time_.row_scale_efficiency;
  } else if (precision == Precision::kFp4) {
    rate = peak_of(job_.hardware.spec, Precision::kFp4).value * time_.gemm_efficiency * time_.fp4_efficiency;
  }
  if (grouped) rate *= time_.grouped_gemm_efficiency;
  const double shape = (1 + time_.gemm_half_rows / p.rows) * (1 + time_.gemm_half_columns / p.columns) *
                       (1 + time_.gemm_half_inner / p.inner);
  const double bytes =
      p.count * (weight_bytes(precision) * (p.rows * p.inner + p.columns * p.inner) + element_ * p.rows * p.columns);
  return p.count * matmul_flops(p.rows, p.columns, p.inner).value / rate * shape +
         time_.gemm_bytes_share * bytes / bandwidth_ + time_.gemm_gap;
}

void LayerTimes::add_product(Work& work, const Product& p, bool grouped, double efficiency) const {
  const Precision precision = job_.training.precision;
  const double forward = product_seconds(p, precision, grouped) / efficiency;
  const double slow = efficiency * time_.gemm_backward_efficiency;
  const double input = product_seconds({p.rows, p.inner, p.columns, p.count}, precision, grouped) / slow;
  const double weight = product_seconds({p.columns, p.inner, p.rows, p.count}, precision, grouped) / slow;
  const TimeCause cause = grouped ? TimeCause::kExperts : TimeCause::kProducts;
  part(work.forward, cause) += forward;
  part(work.backward, cause) += input + weight;
  work.weight_gradients += weight;
  if (!is_narrow(precision)) return;
  // Inputs and gradients of outputs are read and written narrow, once as they are and once transposed.
  const double cast = time_.cast_factor * p.count * 2 * element_ * p.rows / bandwidth_;
  part(work.forward, TimeCause::kElementwise) += cast * p.inner;
  part(work.backward, TimeCause::kElementwise) += cast * p.columns;
}

void LayerTimes::add_attention_block(Work& work) const {
  const ModelConfig& model = job_.model;
  const RankShapes& s = shapes_;
  const double before = total(work.forward);
  if (model.attention == AttentionKind::kLatent) {
    const auto rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const auto rotated = static_cast<double>(model.qk_rope_head_dim);
    if (rank_q > 0) add_product(work, {s.tokens, rank_q, s.hidden_size, 1}, false);
    add_product(work, {s.tokens, s.query_size, rank_q > 0 ? rank_q : s.hidden_size, 1}, false);
    add_product(work, {s.tokens, rank_kv + rotated, s.hidden_size, 1}, false);
    add_product(work, {s.tokens, s.heads * (s.head_dim - rotated) + s.attention_output_size, rank_kv, 1}, false);
  } else {
    add_product(work, {s.tokens, s.query_size + 2 * s.kv_size, s.hidden_size, 1}, false);
  }
  add_product(work, {s.tokens, s.hidden_size, s.attention_output_size, 1}, false);
  if (model.position == PositionKind::kRotary) {
    work.add_elementwise(
        time_.elementwise_factor * kRotary * element_ * s.tokens * (s.query_size + s.kv_size) / bandwidth_,
        time_.elementwise_backward_factor);
  }
  // Core attention. With context parallelism each rank has its share of the queries, and of the pairs.
  const auto context = static_cast<double>(job_.parallelism.context);
  const double heads = s.sequences * s.heads / context;
  double forward, backward;
  if (job_.training.attention_backend == AttentionBackend::kFlash) {
    const double flops = matmul_flops(heads * causal_pairs(s.seq_len), 1, s.head_dim + s.value_head_dim).value;
    const double shape =
        (1 + time_.attention_half_seq_len / s.seq_len) * (1 + time_.attention_half_head_dim / s.head_dim);
    forward = flops / (bf16_peak_ * time_.attention_efficiency) * shape;
    backward = kFlashBackward * forward / time_.attention_backward_efficiency;
  } else {
    const Precision precision = Precision::kBf16;
    const double scores = product_seconds({s.seq_len, s.seq_len, s.head_dim, heads}, precision, false);
    const double values = product_seconds({s.seq_len, s.value_head_dim, s.seq_len, heads}, precision, false);
    const double passes = time_.score_passes * element_ * heads * s.seq_len * s.seq_len / bandwidth_;
    forward = scores + values + passes;
    backward = 2 * scores + 2 * values + passes;
    if (!has_fused_softmax(s.sequences * s.heads, s.seq_len, job_.training.precision)) {
      const double pass = element_ * heads * s.seq_len * s.seq_len / bandwidth_;
      forward += kPlainSoftmaxPasses * pass;
      backward += kPlainSoftmaxBackwardPasses * pass;
    }
  }
  part(work.forward, TimeCause::kAttention) += forward;
  part(work.backward, TimeCause::kAttention) += backward;
  work.core_attention = forward;
  if (context > 1) {
    const double kv_bytes = element_ * s.tokens * 2 * s.kv_size;
    double transfer, hideable;
    if (job_.parallelism.context_kind == ContextKind::kRing) {
      // Every rank passes the keys and values of all others on; each hop hides behind the attention to what came
      // before.
      transfer = (context - 1) * send(network_, context_, Bytes{kv_bytes}).value;
      hideable = forward * (context - 1) / context;
    } else {
      const double bytes = element_ * s.tokens * (2 * s.query_size + 2 * s.kv_size);
      transfer = all_to_all(network_, context_, Bytes{bytes}).value;
      hideable = 0;
    }
    const double hidden_forward = std::min((1 - time_.exposed_context) * transfer, hideable);
    const double hidden_backward = std::min((1 - time_.exposed_context) * 2 * transfer, kFlashBackward * hideable);
    part(work.forward, TimeCause::kContext) += transfer - hidden_forward;
    part(work.backward, TimeCause::kContext) += (hideable > 0 ? 2 : 1) * transfer - hidden_backward;
  }
  work.attention += total(work.forward) - before;
}

void LayerTimes::add_mlp(Work& work, double width) const {
  if (width == 0) return;
  const double before = total(work.forward);
  const auto up = static_cast<double>(job_.model.up_projections());
  add_product(work, {shapes_.tokens, up * width, shapes_.hidden_size, 1}, false);
  add_product(work, {shapes_.tokens, shapes_.hidden_size, width, 1}, false);
  const double activation = time_.elementwise_factor * element_ * shapes_.tokens * (up + 1) * width / bandwidth_;
  work.add_elementwise(activation, time_.elementwise_backward_factor);
  work.activation += activation;
  work.mlp += total(work.forward) - before;
}

// One pair of a column-parallel and a row-parallel product: gathered before and reduced after, or reduced once; the
// backward pass mirrors it, and with sequence parallelism gathers the input once more. What products read in 8 or 4
// bits is gathered so, unless each row has its own scale; sums are not. Source: Transformer Engine,
// module/layernorm_linear.py (gather_along_first_dim takes the quantizer of the product's input); torchtitan,
// docs/float8.md.
void LayerTimes::add_tensor_block(Work& work, Precision products) const {
  if (tensor_.size <= 1) return;
  const double elements = shapes_.tokens * shapes_.hidden_size;
  const Bytes bytes{element_ * elements};
  double forward, backward;
  if (job_.parallelism.sequence) {
    const bool narrow = is_narrow(products) && !job_.training.has_option("row_scales");
    const double gathered = narrow ? weight_bytes(products) : element_;
    const double gather = all_gather(network_, tensor_, Bytes{gathered * elements}).value;
    const double scatter = reduce_scatter(network_, tensor_, bytes).value;
    forward = gather + scatter;
    backward = (job_.training.has_option("keep_gathered_inputs") ? 1 : 2) * gather + scatter;
  } else {
    forward = backward = all_reduce(network_, tensor_, bytes).value;
  }
  const double exposed = job_.training.has_option("async_tensor") ? time_.exposed_tensor_async : time_.exposed_tensor;
  part(work.forward, TimeCause::kTensor) += exposed * forward;
  part(work.backward, TimeCause::kTensor) += exposed * backward;
}

void LayerTimes::add_experts(Work& work, double k, double rows_factor) const {
  const RankShapes& s = shapes_;
  const auto up = static_cast<double>(job_.model.up_projections());
  add_product(work,
              {s.tokens / static_cast<double>(job_.parallelism.tensor), static_cast<double>(job_.model.num_experts),
               s.hidden_size, 1},
              false);
  const MoeTrainingConfig& moe = job_.training.moe;
  if (moe.dispatch != DispatchKind::kDropless) rows_factor = moe.capacity_factor;
  const double rows = s.rows_per_k * k * rows_factor;
  const double rows_per_expert = rows / s.local_experts;
  const double before_up = part(work.forward, TimeCause::kExperts);
  add_product(work, {rows_per_expert, up * s.expert_hidden_size, s.hidden_size, s.local_experts}, true);
  work.expert_inner = part(work.forward, TimeCause::kExperts) - before_up;
  add_product(work, {rows_per_expert, s.hidden_size, s.expert_hidden_size, s.local_experts}, true);
  const double per_element = time_.expert_elementwise_factor * element_ / bandwidth_;
  work.activation = per_element * rows * (up + 1) * s.expert_hidden_size;
  const double permutation = per_element * kPermuteRows * rows * s.hidden_size;
  work.expert_inner += permutation / 2 + work.activation;
  work.add_elementwise(permutation + work.activation, time_.elementwise_backward_factor);
  // Dispatch and combine, forward and backward.
  double exchange = 0;
  const double own_tokens = s.tokens / static_cast<double>(job_.parallelism.tensor);
  const double sent = element_ * own_tokens * s.hidden_size;
  if (expert_.size > 1) {
    const double bytes = sent * k * rows_factor;
    switch (job_.training.moe.dispatcher) {
      case DispatcherKind::kAllGather:
        exchange += all_gather(network_, expert_, Bytes{sent * static_cast<double>(expert_.size)}).value;
        break;
      case DispatcherKind::kHierarchical: {
        // A token crosses to each other node once, whichever of its experts lie there.
        const double nodes = static_cast<double>(expert_.size) / static_cast<double>(expert_.members[0]);
        const double reached = std::min(nodes, rows_factor * expected_nodes(job_.model, nodes, k));
        const double inside = static_cast<double>(expert_.members[0] - 1) / static_cast<double>(expert_.members[0]);
        exchange +=
            hierarchical_all_to_all(network_, expert_, Bytes{sent * reached * (1 - 1 / nodes)}, Bytes{bytes * inside})
                .value;
        break;
      }
      default:
        exchange += all_to_all(network_, expert_, Bytes{bytes}).value;
    }
  }
  // Unlike those of dense products, the tensor-parallel transfers of experts' rows do not overlap with the products.
  if (expert_tensor_.size > 1)
    exchange += all_gather(network_, expert_tensor_, Bytes{element_ * rows * s.hidden_size}).value;
  exchange *= job_.training.has_option("async_expert") ? time_.exposed_expert_async : time_.exposed_expert;
  part(work.forward, TimeCause::kExpert) += 2 * exchange;
  part(work.backward, TimeCause::kExpert) += 2 * exchange;
}

LayerSeconds LayerTimes::finish(const Work& work, double idle, double host) const {
  LayerSeconds layer{work.forward, work.backward, work.weight_gradients};
  const Recompute& recompute = job_.training.recompute;
  double again = 0;
  if (recompute.full) {
    again = total(work.forward);
  } else {
    if (recompute.has("attention"))
      again += work.attention;
    else if (recompute.has("core_attention"))
      again += work.core_attention;
    if (recompute.has("mlp") || recompute.has("moe"))
      again += work.mlp;
    else if (job_.training.expert_saving == ExpertSaving::kRecompute)
      again += work.expert_inner;
    else if (recompute.has("moe_activation"))
      again += work.activation;
    if (recompute.has("norm")) again += work.norm;
  }
  // What is recomputed takes the causes of the first time, in proportion.
  const double share = total(work.forward) > 0 ? time_.recompute_factor * again / total(work.forward) : 0;
  for (std::size_t i = 0; i < layer.backward.size(); ++i) {
    layer.backward[i] += share * work.forward[i];
    if (recompute.full) layer.again[i] = share * work.forward[i];
  }
  part(layer.forward, TimeCause::kHost) += idle / 3;
  part(layer.backward, TimeCause::kHost) += idle * 2 / 3;
  layer.host = host;
  return layer;
}

void LayerTimes::add_transfers(SecondsByCause& pass, const std::vector<LayerTransfer>& transfers) const {
  const RankGroups groups = rank_groups(job_.parallelism, job_.hardware.num_devices);
  for (const LayerTransfer& transfer : transfers) {
    const double exposed = transfer.cause == TimeCause::kTensor    ? time_.exposed_tensor
                           : transfer.cause == TimeCause::kContext ? time_.exposed_context
                                                                   : time_.exposed_expert;
    const GroupPlacement placement = place(*group_named(groups, transfer.group), network_.domains);
    part(pass, transfer.cause) +=
        exposed * collective_seconds(network_, placement, transfer.collective, Bytes{transfer.bytes}).value;
  }
}

// Weight gradients keep their share of the backward pass.
LayerSeconds LayerTimes::with_own(LayerSeconds layer, const LayerSeconds& arithmetic,
                                  const LayerTransfers& transfers) const {
  const double before = layer.backward_total();
  if (sends_as_trainer(job_)) {
    for (const TimeCause cause : {TimeCause::kTensor, TimeCause::kContext, TimeCause::kExpert}) {
      part(layer.forward, cause) = part(layer.backward, cause) = 0;
    }
    add_transfers(layer.forward, transfers.forward);
    add_transfers(layer.backward, transfers.backward);
  }
  for (const TimeCause cause :
       {TimeCause::kProducts, TimeCause::kExperts, TimeCause::kAttention, TimeCause::kElementwise, TimeCause::kHost}) {
    part(layer.forward, cause) = arithmetic.forward[static_cast<std::size_t>(cause)];
    part(layer.backward, cause) = arithmetic.backward[static_cast<std::size_t>(cause)];
  }
  if (before > 0) layer.weight_gradients *= layer.backward_total() / before;
  layer.host = 0;
  return layer;
}

// Every micro-batch's gradients are added to the buffer of the step.
void LayerTimes::add_accumulation(Work& work, double weights) const {
  part(work.backward, TimeCause::kElementwise) += time_.accumulation_bytes * weights / bandwidth_;
}

// What dense and MoE layers have in common: more tensor-parallel ranks, a softmax of several kernels.
double LayerTimes::host_of_attention() const {
  double host = 0;
  if (tensor_.size > 1)
    host += time_.host_per_tensor_rank * std::pow(static_cast<double>(tensor_.size - 1), time_.host_tensor_exponent);
  if (job_.training.attention_backend == AttentionBackend::kUnfused &&
      !has_fused_softmax(shapes_.sequences * shapes_.heads, shapes_.seq_len, job_.training.precision))
    host += time_.unfused_softmax_host;
  return host;
}

// Norms, residuals and attention: what dense and MoE layers have in common.
LayerTimes::Work LayerTimes::attention_half() const {
  Work work;
  work.norm =
      time_.elementwise_factor * kNormAndResidual * element_ * shapes_.split_tokens * shapes_.hidden_size / bandwidth_;
  work.add_elementwise(work.norm, time_.elementwise_backward_factor);
  add_attention_block(work);
  add_tensor_block(work, job_.training.precision);
  return work;
}

LayerSeconds LayerTimes::dense_layer() const {
  Work work = attention_half_;
  add_mlp(work, shapes_.dense_hidden_size);
  add_tensor_block(work, job_.training.precision);
  add_accumulation(work, dense_weights_.total());
  const LayerSeconds layer = finish(work, time_.layer_overhead, time_.host_per_layer + host_of_attention());
  return own_ ? with_own(layer, own_->dense_layer(), dense_layer_transfers(job_)) : layer;
}

LayerSeconds LayerTimes::moe_layer(double k, double rows_factor) const {
  Work work = attention_half_;
  const double before = total(work.forward);
  if (shapes_.shared_expert_hidden_size > 0) {
    add_mlp(work, shapes_.shared_expert_hidden_size);
    add_tensor_block(work, job_.training.precision);
  }
  add_experts(work, k, rows_factor);
  add_accumulation(work, moe_weights_.total());
  work.mlp = total(work.forward) - before;
  const LayerSeconds layer =
      finish(work, time_.layer_overhead + time_.moe_layer_overhead, time_.host_per_moe_layer + host_of_attention());
  if (!own_) return layer;
  const MoeTrainingConfig& moe = job_.training.moe;
  const double sent_factor = moe.dispatch == DispatchKind::kDropless ? rows_factor : moe.capacity_factor;
  return with_own(layer, own_->moe_layer(k, rows_factor), moe_layer_transfers(job_, k, sent_factor));
}

LayerSeconds LayerTimes::embedding() const {
  const double seconds = 3 * element_ * shapes_.split_tokens * shapes_.hidden_size / bandwidth_;
  LayerSeconds layer;
  part(layer.forward, TimeCause::kElementwise) = seconds;
  part(layer.backward, TimeCause::kElementwise) = seconds;
  return own_ ? with_own(layer, own_->embedding(), {}) : layer;
}

LayerSeconds LayerTimes::head() const {
  Work work;
  // A vocabulary split over tensor-parallel ranks is padded: Shoeybi et al. 2019 (arXiv:1909.08053), section 5.1.
  const bool odd = tensor_.size <= 1 && std::fmod(shapes_.vocabulary, 2) != 0;
  const Product logits{shapes_.head_tokens, shapes_.vocabulary, shapes_.hidden_size, 1};
  const double efficiency = odd ? time_.odd_vocabulary_efficiency : 1;
  const double slow = efficiency * time_.gemm_backward_efficiency;
  part(work.forward, TimeCause::kProducts) = product_seconds(logits, Precision::kBf16, false) / efficiency;
  const double weight = product_seconds({logits.columns, logits.inner, logits.rows, 1}, Precision::kBf16, false) / slow;
  part(work.backward, TimeCause::kProducts) =
      product_seconds({logits.rows, logits.inner, logits.columns, 1}, Precision::kBf16, false) / slow + weight;
  work.weight_gradients = weight;
  const double loss = time_.logit_bytes * shapes_.head_tokens * shapes_.vocabulary / bandwidth_;
  part(work.forward, TimeCause::kElementwise) = loss / 2;
  part(work.backward, TimeCause::kElementwise) = loss / 2;
  add_tensor_block(work, Precision::kBf16);
  add_accumulation(work, shapes_.vocabulary * shapes_.hidden_size);
  const LayerSeconds layer{work.forward, work.backward, work.weight_gradients, 0};
  return own_ ? with_own(layer, own_->head(), {}) : layer;
}

LayerSeconds LayerTimes::multi_token(double k) const {
  LayerSeconds sum = job_.model.is_moe_layer(job_.model.num_layers - 1) ? moe_layer(k) : dense_layer();
  const LayerSeconds logits = head();
  Work projection;
  add_product(projection,
              {shapes_.tokens, shapes_.hidden_size / static_cast<double>(tensor_.size), 2 * shapes_.hidden_size, 1},
              false);
  for (std::size_t i = 0; i < sum.forward.size(); ++i) {
    sum.forward[i] += logits.forward[i] + projection.forward[i];
    sum.backward[i] += logits.backward[i] + projection.backward[i];
  }
  sum.weight_gradients += logits.weight_gradients + projection.weight_gradients;
  return sum;
}

}  // namespace mmoe
