#include "sim/config/job_key.h"

#include <algorithm>

#include "sim/config/job.h"

namespace mmoe {

const std::vector<JobKey>& job_key_table() {
  using enum KeyForm;
  static const std::vector<JobKey> kTable = {
      {"model", kObject, false},
      {"model.hf_config", kPath, false},
      {"model.preset", kWord, false},
      {"model.hidden_size", kValue, false},
      {"model.num_layers", kValue, false},
      {"model.num_heads", kValue, false},
      {"model.num_kv_heads", kValue, false},
      {"model.head_dim", kValue, false},
      {"model.vocab_size", kValue, false},
      {"model.num_experts", kValue, false},
      {"model.expert_hidden_size", kValue, false},
      {"model.shared_expert_hidden_size", kValue, false},
      {"model.num_dense_layers", kValue, false},
      {"model.dense_hidden_size", kValue, false},
      {"model.top_k", kValue, false},
      {"model.tie_embeddings", kValue, false},
      {"model.rope_theta", kValue, false},
      {"model.rms_norm_eps", kValue, false},
      {"model.qk_norm", kWord, false},
      {"model.gate_normalization", kWord, false},
      {"model.attention", kWord, false},
      {"model.q_lora_rank", kValue, false},
      {"model.kv_lora_rank", kValue, false},
      {"model.qk_rope_head_dim", kValue, false},
      {"model.v_head_dim", kValue, false},
      {"model.activation", kWord, false},
      {"model.norm", kWord, false},
      {"model.position", kWord, false},
      {"model.max_position_embeddings", kValue, false},
      {"model.linear_bias", kValue, false},
      {"model.qkv_bias", kValue, false},
      {"model.shared_expert_gate", kValue, false},
      {"model.num_mtp_layers", kValue, false},
      {"model.n_group", kValue, false},
      {"model.topk_group", kValue, false},
      {"hardware.device", kWordOrPath, false},
      {"hardware.num_devices", kValue, false},
      {"hardware.devices_per_node", kValue, false},
      {"hardware.cluster", kWordOrPath, false},
      {"hardware.usable_memory_gib", kValue, false},
      {"hardware.allocator", kWord, false},
      {"parallelism.tensor", kValue, true},
      {"parallelism.sequence", kValue, true},
      {"parallelism.context", kValue, true},
      {"parallelism.pipeline", kValue, true},
      {"parallelism.virtual_pipeline", kValue, true},
      {"parallelism.expert", kValue, true},
      {"parallelism.expert_tensor", kValue, true},
      {"parallelism.zero_stage", kValue, true},
      {"parallelism.zero_group", kValue, true},
      {"parallelism.context_kind", kWord, true},
      {"parallelism.stage_layers", kValue, true},
      {"parallelism.schedule", kWord, true},
      {"training.seq_len", kValue, false},
      {"training.micro_batch_size", kValue, true},
      {"training.global_batch_size", kValue, false},
      {"training.tokens", kValue, false},
      {"training.precision", kWord, false},
      {"training.recompute", kList, true},
      {"training.recompute_num_layers", kValue, true},
      {"training.expert_saving", kWord, true},
      {"training.operations", kWord, false},
      {"training.framework", kWordOrPath, false},
      {"training.gradient_precision", kWord, false},
      {"training.attention_backend", kWord, false},
      {"training.hidden_dropout", kValue, false},
      {"training.attention_dropout", kValue, false},
      {"training.options", kList, false},
      {"training.optimizer_precision", kWord, false},
      {"training.overlap", kValue, true},
      {"training.offload", kWord, true},
      {"training.packing", kWord, false},
      {"training.reset_attention_mask", kValue, false},
      {"training.learning_rate", kValue, false},
      {"training.schedule", kWord, false},
      {"training.warmup_steps", kValue, false},
      {"training.weight_decay", kValue, false},
      {"training.beta1", kValue, false},
      {"training.beta2", kValue, false},
      {"training.clip_norm", kValue, false},
      {"training.freeze", kList, false},
      {"training.load_balance_coefficient", kValue, false},
      {"training.z_loss_coefficient", kValue, false},
      {"training.checkpoint_interval", kValue, false},
      {"training.seed", kValue, false},
      {"training.moe.dispatch", kWord, false},
      {"training.moe.capacity_factor", kValue, false},
      {"training.moe.dispatcher", kWord, true},
      {"training.moe.load", kObject, false},
      {"elastic.k_min", kValue, false},
      {"elastic.k_max", kValue, false},
      {"elastic.granularity", kWord, false},
      {"elastic.sampling", kWord, false},
      {"elastic.tau", kValue, false},
      {"elastic.mean_k", kValue, false},
      {"elastic.top_p", kValue, false},
      {"elastic.k_reference", kValue, false},
      {"elastic.share", kWord, false},
      {"elastic.budget", kObject, true},
      {"elastic.budget.kind", kWord, false},
      {"elastic.budget.method", kWord, false},
      {"elastic.budget.groups", kList, false},
      {"elastic.budget.sum_k", kList, false},
      {"data.text", kPathList, false},
      {"data.tokenizer", kWord, false},
      {"data.vocab_size", kValue, false},
      {"data.split", kList, false},
      {"loop.allocation_mean_k", kValue, false},
      {"loop.eval_sequences", kValue, false},
  };
  return kTable;
}

const JobKey* find_job_key(std::string_view name) {
  const auto& table = job_key_table();
  const auto found = std::find_if(table.begin(), table.end(), [&](const JobKey& key) { return key.name == name; });
  return found == table.end() ? nullptr : &*found;
}

const std::vector<std::string>& job_keys() {
  static const std::vector<std::string> kKeys = [] {
    std::vector<std::string> keys;
    for (const JobKey& key : job_key_table()) keys.emplace_back(key.name);
    return keys;
  }();
  return kKeys;
}

}  // namespace mmoe
