#include "sim/plan/megatron_script.h"

#include <algorithm>
#include <cmath>

#include "sim/config/enum_names.h"
#include "sim/config/json_text.h"
#include "sim/plan/shell_word.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kDefaultSteps = 1000;
constexpr int64_t kVocabularyMultiple = 128;

class Writer {
 public:
  explicit Writer(const Job& job) : job_(job) {}

  MegatronScript write(std::optional<int> fixed_k) {
    script_.devices_per_node = std::min(job_.hardware.devices_per_node, job_.hardware.num_devices);
    script_.num_nodes = (job_.hardware.num_devices + script_.devices_per_node - 1) / script_.devices_per_node;
    script_.null_vocabulary = job_.model.vocab_size - 1;
    model();
    if (job_.model.num_experts > 0) experts(fixed_k);
    parallelism();
    precision();
    training();
    recomputation();
    framework_options();
    if (job_.hardware.allocator == AllocatorKind::kExpandableSegments) {
      script_.environment.emplace_back("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True");
    }
    // What sequence parallelism and overlapped reductions of Megatron rely on before Blackwell.
    script_.environment.emplace_back("CUDA_DEVICE_MAX_CONNECTIONS", "1");
    return std::move(script_);
  }

 private:
  void argument(const char* name, std::string value = "") { script_.arguments.emplace_back(name, std::move(value)); }
  void argument(const char* name, int64_t value) { argument(name, std::to_string(value)); }
  void number(const char* name, double value) { argument(name, shown(value)); }
  void unexpressed(const char* key, std::string value, std::string instead) {
    script_.unexpressed.push_back({key, std::move(value), std::move(instead)});
  }

  void model() {
    const ModelConfig& m = job_.model;
    argument("--num-layers", m.num_layers);
    argument("--hidden-size", m.hidden_size);
    argument("--ffn-hidden-size", m.dense_hidden_size > 0 ? m.dense_hidden_size : m.expert_hidden_size);
    argument("--num-attention-heads", m.num_heads);
    if (m.attention == AttentionKind::kLatent) {
      argument("--multi-latent-attention");
      if (m.q_lora_rank > 0) argument("--q-lora-rank", m.q_lora_rank);
      argument("--kv-lora-rank", m.kv_lora_rank);
      argument("--qk-head-dim", m.head_dim - m.qk_rope_head_dim);
      argument("--qk-pos-emb-head-dim", m.qk_rope_head_dim);
      argument("--v-head-dim", m.value_head_dim());
      argument("--rope-type", "rope");
      argument("--qk-layernorm");  // of the compressed vectors
    } else {
      argument("--kv-channels", m.head_dim);
      if (m.num_kv_heads != m.num_heads) {
        argument("--group-query-attention");
        argument("--num-query-groups", m.num_kv_heads);
      }
      if (m.value_head_dim() != m.head_dim) unexpressed("model.v_head_dim", std::to_string(m.v_head_dim), "head_dim");
    }
    switch (m.position) {
      case PositionKind::kRotary:
        argument("--position-embedding-type", "rope");
        number("--rotary-base", m.rope_theta);
        break;
      case PositionKind::kLearned:
        argument("--position-embedding-type", "learned_absolute");
        break;
      default:
        argument("--position-embedding-type", "none");
    }
    argument("--max-position-embeddings", std::max(m.max_position_embeddings, job_.training.seq_len));
    argument("--normalization", m.norm == NormKind::kRms ? "RMSNorm" : "LayerNorm");
    number("--norm-epsilon", m.rms_norm_eps);
    if (m.activation == Activation::kSwiGlu) argument("--swiglu");
    if (m.activation == Activation::kSquaredRelu) argument("--squared-relu");
    if (!m.linear_bias) argument("--disable-bias-linear");
    if (m.qkv_bias) argument("--add-qkv-bias");
    if (m.qk_norm != QkNorm::kNone) argument("--qk-layernorm");
    if (m.qk_norm == QkNorm::kFull) unexpressed("model.qk_norm", "full", "each head is normalised alone");
    if (!m.tie_embeddings) argument("--untie-embeddings-and-output-weights");
    argument("--make-vocab-size-divisible-by", kVocabularyMultiple);
    if (m.num_mtp_layers > 0) argument("--mtp-num-layers", m.num_mtp_layers);
  }

  int fixed_top_k(std::optional<int> fixed_k) {
    const ElasticConfig& elastic = job_.elastic;
    const std::string range = std::to_string(elastic.k_min) + ".." + std::to_string(elastic.k_max);
    const bool varies = elastic.k_min != elastic.k_max || elastic.sampling == Sampling::kTopP;
    if (fixed_k && (*fixed_k < 1 || *fixed_k > job_.model.num_experts)) {
      throw ConfigError("--fixed-k " + std::to_string(*fixed_k) +
                        " must lie between 1 and model.num_experts = " + std::to_string(job_.model.num_experts));
    }
    if (!varies) return fixed_k.value_or(elastic.k_max);
    if (!fixed_k) {
      throw ConfigError(job_.where + ": elastic draws k from " + range +
                        ", but Megatron-Core trains with one k only; give --fixed-k K for a top-K specialist, or train "
                        "with mmoe train");
    }
    unexpressed("elastic.k_min..k_max", range, "k = " + std::to_string(*fixed_k) + " in every layer and step");
    unexpressed("elastic.sampling", name_of(elastic.sampling), "nothing is drawn");
    if (elastic.budget) unexpressed("elastic.budget", name_of(elastic.budget->kind), "nothing is bounded");
    return *fixed_k;
  }

  void experts(std::optional<int> fixed_k) {
    const ModelConfig& m = job_.model;
    const TrainingConfig& t = job_.training;
    const int top_k = fixed_top_k(fixed_k);
    argument("--num-experts", m.num_experts);
    argument("--moe-ffn-hidden-size", m.expert_hidden_size);
    argument("--moe-router-topk", top_k);
    if (m.limits_groups()) {
      argument("--moe-router-num-groups", m.n_group);
      argument("--moe-router-group-topk", m.topk_group);
    }
    if (m.num_dense_layers > 0) {
      argument("--moe-layer-freq",
               "([0]*" + std::to_string(m.num_dense_layers) + "+[1]*" + std::to_string(m.num_moe_layers()) + ")");
    }
    if (m.shared_expert_hidden_size > 0) {
      argument("--moe-shared-expert-intermediate-size", m.shared_expert_hidden_size);
      if (m.shared_expert_gate) argument("--moe-shared-expert-gate");
    }
    // Softmax over all experts before the choice keeps its probabilities; over the chosen ones alone it is the same as
    // dividing these by their sum.
    const bool before = m.gate_normalization == GateNormalization::kNone;
    if (before || top_k == 1) argument("--moe-router-pre-softmax");
    if (!before && top_k == 1) {
      unexpressed("model.gate_normalization", name_of(m.gate_normalization),
                  "the routing weight of the one expert is its probability, since 1 would give the router no gradient");
    } else if (m.gate_normalization == GateNormalization::kReference) {
      unexpressed("model.gate_normalization", "reference", "weights are divided by the sum of the selected ones");
    }
    argument("--moe-router-load-balancing-type", "aux_loss");
    number("--moe-aux-loss-coeff", t.load_balance_coefficient);
    number("--moe-z-loss-coeff", t.z_loss_coefficient);
    argument("--moe-grouped-gemm");
    switch (t.moe.dispatcher) {
      case DispatcherKind::kAllGather:
        argument("--moe-token-dispatcher-type", "allgather");
        break;
      case DispatcherKind::kHierarchical:  // tokens cross to another node once
        argument("--moe-token-dispatcher-type", "flex");
        argument("--moe-flex-dispatcher-backend", "deepep");
        break;
      default:
        argument("--moe-token-dispatcher-type", "alltoall");
    }
    if (t.moe.dispatch != DispatchKind::kDropless) {
      number("--moe-expert-capacity-factor", t.moe.capacity_factor);
      if (t.moe.dispatch == DispatchKind::kPadded) argument("--moe-pad-expert-input-to-capacity");
    }
  }

  void parallelism() {
    const ParallelismConfig& p = job_.parallelism;
    argument("--tensor-model-parallel-size", p.tensor);
    argument("--pipeline-model-parallel-size", p.pipeline);
    argument("--context-parallel-size", p.context);
    if (p.context > 1) argument("--cp-comm-type", p.context_kind == ContextKind::kRing ? "p2p" : "a2a");
    if (job_.model.num_experts > 0) {
      argument("--expert-model-parallel-size", p.expert);
      argument("--expert-tensor-parallel-size", p.expert_tensor);
    }
    if (p.sequence && p.tensor > 1) argument("--sequence-parallel");
    stages();
    if (p.schedule == PipelineSchedule::kZeroBubble) {
      unexpressed("parallelism.schedule", name_of(p.schedule), "1F1B, interleaved where there are several chunks");
    }
    if (p.zero_stage >= 1) argument("--use-distributed-optimizer");
    if (p.zero_stage >= 2) {
      argument("--use-megatron-fsdp");
      argument("--data-parallel-sharding-strategy", p.zero_stage == 2 ? "optim_grads" : "optim_grads_params");
    }
    if (p.zero_group > 0 && p.zero_stage >= 1) {  // with Megatron-FSDP: its hybrid sharding
      argument("--num-distributed-optimizer-instances", p.sharded_copies(job_.hardware));
    }
    if (job_.training.overlap && p.zero_stage >= 1) {
      argument("--overlap-grad-reduce");
      argument("--overlap-param-gather");
    } else if (job_.training.overlap && job_.data_parallel_size() > 1) {
      argument("--overlap-grad-reduce");
    }
  }

  // Equal chunks by their number, others by Megatron's layout string: E embedding, t layer, m further-token layer, L
  // loss, | between chunks.
  void stages() {
    const ParallelismConfig& p = job_.parallelism;
    const int64_t chunks = p.pipeline * p.virtual_pipeline, layers = job_.model.num_layers;
    if (p.pipeline == 1) return;
    const bool equal = std::all_of(p.stage_layers.begin(), p.stage_layers.end(),
                                   [&](int64_t length) { return length * chunks == layers; });
    if (equal && layers % chunks == 0 && job_.model.num_mtp_layers == 0) {
      if (p.virtual_pipeline > 1) argument("--num-virtual-stages-per-pipeline-rank", p.virtual_pipeline);
      return;
    }
    std::string layout(1, 'E');
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t even = layers / chunks + (chunk < layers % chunks ? 1 : 0);
      const int64_t length = p.stage_layers.empty() ? even : p.stage_layers[static_cast<size_t>(chunk)];
      if (chunk > 0) layout += '|';
      layout.append(static_cast<size_t>(length), 't');
    }
    layout.append(static_cast<size_t>(job_.model.num_mtp_layers), 'm');
    argument("--pipeline-model-parallel-layout", layout + "L");
  }

  void precision() {
    const TrainingConfig& t = job_.training;
    switch (t.precision) {
      case Precision::kFp64:
        throw ConfigError(job_.where + ": training.precision = fp64 is none of Megatron-Core's; use bf16 or fp32");
      case Precision::kFp32:
        return;
      case Precision::kFp16:
        argument("--fp16");
        return;
      case Precision::kFp8:
        argument("--fp8-format", "hybrid");
        break;
      case Precision::kFp4:
        argument("--fp4-format", "e2m1");
        break;
      default:
        break;
    }
    argument("--bf16");
    if (t.gradient_precision == Precision::kBf16) {
      argument("--grad-reduce-in-bf16");
    } else {
      argument("--accumulate-allreduce-grads-in-fp32");
    }
    if (t.optimizer_precision == Precision::kBf16 || offloads_optimizer()) argument("--use-precision-aware-optimizer");
    if (t.optimizer_precision == Precision::kBf16) {
      argument("--exp-avg-dtype", "bf16");
      argument("--exp-avg-sq-dtype", "bf16");
    }
  }

  void training() {
    const TrainingConfig& t = job_.training;
    argument("--seq-length", t.seq_len);
    argument("--micro-batch-size", t.micro_batch_size);
    argument("--global-batch-size", t.global_batch_size);
    const bool given = t.num_steps() >= 1;
    const int64_t steps = given ? t.num_steps() : kDefaultSteps;
    if (!given) unexpressed("training.tokens", "not given", std::to_string(steps) + " steps");
    argument("--train-iters", steps);
    number("--lr", t.learning_rate);
    if (t.schedule != LearningRateSchedule::kConstant) number("--min-lr", t.learning_rate * kLearningRateFloor);
    switch (t.schedule) {
      case LearningRateSchedule::kCosine:
        argument("--lr-decay-style", "cosine");
        break;
      case LearningRateSchedule::kWsd:
        argument("--lr-decay-style", "WSD");
        argument("--lr-wsd-decay-style", "linear");
        argument("--lr-wsd-decay-iters", std::llround(kWsdDecayFraction * static_cast<double>(steps)));
        break;
      default:
        argument("--lr-decay-style", "constant");
    }
    argument("--lr-warmup-iters", t.warmup_steps);
    argument("--optimizer", "adam");
    number("--weight-decay", t.weight_decay);
    number("--adam-beta1", t.beta1);
    number("--adam-beta2", t.beta2);
    number("--clip-grad", t.clip_norm);
    number("--attention-dropout", t.attention_dropout);
    number("--hidden-dropout", t.hidden_dropout);
    argument("--attention-backend", t.attention_backend == AttentionBackend::kFlash ? "flash" : "unfused");
    if (t.reset_attention_mask) {
      for (const char* flag : {"--reset-attention-mask", "--reset-position-ids", "--eod-mask-loss"}) argument(flag);
    }
    argument("--seed", static_cast<int64_t>(t.seed));
    if (t.checkpoint_interval > 0) argument("--save-interval", t.checkpoint_interval);
    offload();
  }

  // The optimiser that offloads is the precision-aware one, which needs the distributed one.
  bool offloads_optimizer() const {
    return job_.training.offload == Offload::kOptimizer && job_.parallelism.zero_stage >= 1;
  }

  void offload() {
    const TrainingConfig& t = job_.training;
    if (offloads_optimizer()) {
      argument("--optimizer-cpu-offload");
    } else if (t.offload == Offload::kOptimizer) {
      unexpressed("training.offload", name_of(t.offload),
                  "its states stay on the device: offloading needs ZeRO 1 or more");
    }
    if (t.offload != Offload::kActivations) return;
    if (job_.parallelism.pipeline > 1 || t.recompute.any()) {
      unexpressed("training.offload", name_of(t.offload),
                  "they stay on the device: offloading needs one pipeline rank and no recomputation");
    } else {
      argument("--cpu-offloading-num-layers", std::max<int64_t>(1, job_.model.num_layers - 1));  // all but one, at most
    }
  }

  void recomputation() {
    const Recompute& recompute = job_.training.recompute;
    if (job_.training.expert_saving == ExpertSaving::kRecompute && !recompute.full && !recompute.has("moe")) {
      unexpressed("training.expert_saving", "recompute", "the experts' inputs and up projections are kept");
    }
    if (recompute.full) {
      argument("--recompute-granularity", "full");
      argument("--recompute-method", recompute.num_layers > 0 ? "block" : "uniform");
      argument("--recompute-num-layers", std::max<int64_t>(1, recompute.num_layers));
      return;
    }
    static constexpr std::pair<const char*, const char*> kModules[] = {{"core_attention", "core_attn"},
                                                                       {"moe_activation", "moe_act"},
                                                                       {"norm", "layernorm"},
                                                                       {"mla_up_projection", "mla_up_proj"},
                                                                       {"mlp", "mlp"},
                                                                       {"moe", "moe"},
                                                                       {"shared_experts", "shared_experts"}};
    std::vector<std::string> words;
    for (const std::string& module : recompute.modules) {
      const auto found = std::find_if(std::begin(kModules), std::end(kModules),
                                      [&](const auto& entry) { return module == entry.first; });
      const bool whole_attention = module == "attention";
      if (whole_attention) unexpressed("training.recompute", "attention", "core attention alone is recomputed");
      MMOE_CHECK(whole_attention || found != std::end(kModules)) << module;
      const std::string word = whole_attention ? "core_attn" : found->second;
      if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
    }
    if (words.empty()) return;
    argument("--recompute-granularity", "selective");
    std::string list = words.front();
    for (size_t i = 1; i < words.size(); ++i) list += " " + words[i];
    argument("--recompute-modules", list);
  }

  void framework_options() {
    const TrainingConfig& t = job_.training;
    if (t.has_option("fused_cross_entropy")) {
      argument("--cross-entropy-loss-fusion");
      argument("--cross-entropy-fusion-impl", "te");
    }
    argument("--transformer-impl", t.has_option("local_layers") ? "local" : "transformer_engine");
    if (t.has_option("tensor_overlap")) argument("--tp-comm-overlap");
    if (t.has_option("async_expert")) argument("--overlap-moe-expert-parallel-comm");
    if (t.has_option("deferred_embedding_gradients")) argument("--defer-embedding-wgrad-compute");
    if (!t.has_option("attention_mask")) argument("--no-create-attention-mask-in-dataloader");
  }

  const Job& job_;
  MegatronScript script_;
};

}  // namespace

MegatronScript megatron_script(const Job& job, std::optional<int> fixed_k) { return Writer(job).write(fixed_k); }

std::string MegatronScript::text() const {
  std::string text =
      "#!/usr/bin/env bash\n"
      "# Megatron-Core 0.16, pretrain_gpt.py; run on every node. Written by mmoe plan.\n"
      "#   MEGATRON      folder of Megatron-LM's sources      NODE_RANK, MASTER_ADDR, MASTER_PORT   as torchrun has "
      "them\n"
      "#   DATA_PATH     prefix of the token files (none: mock data)\n"
      "#   TOKENIZER     arguments of the tokenizer           CHECKPOINTS   folder (none: nothing is saved)\n";
  if (!unexpressed.empty()) text += "# What the job says and Megatron-Core cannot express:\n";
  for (const UnexpressedSetting& setting : unexpressed) {
    text += "#   " + setting.key + " = " + setting.value + ": " + setting.instead + "\n";
  }
  text += "set -euo pipefail\n";
  for (const auto& [name, value] : environment) text += "export " + name + "=" + shell_word(value) + "\n";
  text +=
      "data=(--mock-data)\n"
      "[ -z \"${DATA_PATH:-}\" ] || data=(--data-path \"$DATA_PATH\")\n"
      "read -ra tokenizer <<<\"${TOKENIZER:---tokenizer-type NullTokenizer --vocab-size " +
      std::to_string(null_vocabulary) +
      "}\"\n"
      "saved=()\n"
      "[ -z \"${CHECKPOINTS:-}\" ] || saved=(--save \"$CHECKPOINTS\" --load \"$CHECKPOINTS\")\n"
      "arguments=(\n";
  for (const auto& [name, value] : arguments) {
    text.append("  ").append(name);
    // Several words of one argument stay several.
    if (!value.empty()) text.append(" ").append(name == "--recompute-modules" ? value : shell_word(value));
    text += '\n';
  }
  text += ")\ntorchrun --nnodes " + std::to_string(num_nodes) + " --nproc-per-node " +
          std::to_string(devices_per_node) +
          " --node-rank \"${NODE_RANK:-0}\" \\\n"
          "  --master-addr \"${MASTER_ADDR:-localhost}\" --master-port \"${MASTER_PORT:-29500}\" \\\n"
          "  \"${MEGATRON:?folder of Megatron-LM}/pretrain_gpt.py\" \\\n"
          "  \"${arguments[@]}\" \"${data[@]}\" \"${tokenizer[@]}\" \"${saved[@]}\" \"$@\"\n";
  return text;
}

}  // namespace mmoe
