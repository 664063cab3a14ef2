#include "sim/validation/megatron_run.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "sim/validation/run_flags.h"

namespace mmoe {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Layers of each pipeline chunk from Megatron's layout string "Et*2|(tt|)*5t|tmL": E embedding, t layer, m
// further-token layer, L loss; x*n repeats x.
std::vector<int64_t> expand_layout(const std::string& text) {
  const auto expand = [](const auto& self, const std::string& part) -> std::string {
    std::string result;
    for (std::size_t i = 0; i < part.size();) {
      std::string unit;
      if (part[i] == '(') {
        std::size_t depth = 1, end = i + 1;
        while (end < part.size() && depth > 0) depth += part[end] == '(' ? 1 : part[end] == ')' ? -1 : 0, ++end;
        unit = self(self, part.substr(i + 1, end - i - 2));
        i = end;
      } else {
        unit = part[i++];
      }
      int64_t times = 1;
      if (i < part.size() && part[i] == '*') {
        std::size_t end = ++i;
        while (end < part.size() && std::isdigit(static_cast<unsigned char>(part[end]))) ++end;
        times = std::stoll(part.substr(i, end - i));
        i = end;
      }
      for (int64_t n = 0; n < times; ++n) result += unit;
    }
    return result;
  };
  std::vector<int64_t> layers = {0};
  for (const char c : expand(expand, text)) {
    if (c == '|') layers.push_back(0);
    layers.back() += c == 't';
  }
  return layers;
}

// Attention that "auto" chooses. Read off the runs: A100 flash-attn; Hopper and later cuDNN, but flash-attn on
// Blackwell where nondeterministic algorithms are forbidden; the older long-term-support release has no deterministic
// flash-attn.
enum class Attention { kUnfused, kFlash, kCudnn };
Attention attention_of(const MegatronRun& run, const RunFlags& flags, bool engine, bool moe) {
  const std::string asked = flags.get("attention-backend", "auto");
  if (asked == "unfused" || !engine) return Attention::kUnfused;
  if (asked == "flash") return Attention::kFlash;
  if (asked == "fused") return Attention::kCudnn;
  const bool deterministic = flags.get("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "1") == "0";
  const std::string& hardware = run.row.text("hardware");
  if (contains(hardware, "a100")) {
    const bool old = contains(run.row.text("table"), "lts") && (contains(hardware, "dracooci") || moe);
    return deterministic && old ? Attention::kUnfused : Attention::kFlash;
  }
  if (contains(hardware, "h100") || contains(hardware, "h200")) return Attention::kCudnn;
  return deterministic ? Attention::kFlash : Attention::kCudnn;
}

void read_latent_attention(MegatronRun& run, const RunFlags& flags) {
  int64_t query = 0, key_value = 512, head = 128, rotated = 64, value = 128;
  for (const auto& [key, unused] : flags.all()) {  // "MLA q-lora 1536, kv-lora 512, qk 128+64, v 128"
    if (!key.starts_with("MLA")) continue;
    const auto number = [&](const char* word, int64_t& out) {
      if (const std::size_t at = key.find(word); at != std::string::npos)
        out = std::atoll(key.c_str() + at + std::string(word).size());
    };
    number(" q-lora ", query);
    number("kv-lora ", key_value);
    number("qk ", head);
    number("+", rotated);
    number(" v ", value);
  }
  const auto given = [&](const char* flag, int64_t fallback) {
    return static_cast<int64_t>(flags.number(flag, static_cast<double>(fallback)));
  };
  rotated = given("qk-pos-emb-head-dim", rotated);
  run.model["attention"] = "latent";
  run.model["q_lora_rank"] = given("q-lora-rank", query);
  run.model["kv_lora_rank"] = given("kv-lora-rank", key_value);
  run.model["qk_rope_head_dim"] = rotated;
  run.model["head_dim"] = given("qk-head-dim", head) + rotated;
  run.model["v_head_dim"] = given("v-head-dim", value);
  run.model.erase("num_kv_heads");
  run.model.erase("qk_norm");
}

}  // namespace

std::string read_megatron_flags(MegatronRun& run) {
  const RunFlags flags(run.row.text("flags"));
  const bool bench = run.framework == "megatron_core_0_14";  // SimuMax's runs: Llama and DeepSeek shapes
  const bool ci = flags.has("transformer-impl");
  if (!bench && !ci) {  // reports name no flags: Llama-like shapes, flash attention
    run.tied_embeddings = false;
    return "";
  }
  for (const auto& [key, unused] : flags.all()) {
    if (contains(key, "mamba") || contains(key, "hybrid-override")) return "hybrid (state-space) model";
  }
  if (flags.get("position-embedding-type") == "none") return "hybrid (state-space) model";
  if (flags.has("cuda-graph-impl")) return "CUDA graphs keep a memory pool of their own";
  if (contains(run.row.text("sharding"), "muon")) return "optimizer muon deals whole tensors to ranks";
  if (contains(run.row.text("model"), "distill")) return "distillation: the teacher's sizes are missing";
  if (run.row.text("dp").empty()) return "data parallel size missing";

  const bool moe = run.model.contains("num_experts");
  const bool gated = flags.has("swiglu") || bench;
  run.model["activation"] = gated ? "swiglu" : flags.has("squared-relu") ? "squared_relu" : "gelu";
  run.model["norm"] = bench ? "rms" : "layer";
  run.model["linear_bias"] = !flags.has("disable-bias-linear") && !bench;
  const bool learned = flags.get("position-embedding-type", "learned_absolute") == "learned_absolute" && !bench;
  run.model["position"] = learned ? "learned" : "rotary";
  run.model["max_position_embeddings"] =
      static_cast<int64_t>(flags.number("max-position-embeddings", run.row.number("seq").value_or(0)));
  if (flags.has("qk-layernorm")) run.model["qk_norm"] = "per_head";
  if (const double width = flags.number("kv-channels", 0); width > 0)
    run.model["head_dim"] = static_cast<int64_t>(width);
  bool latent = flags.has("multi-latent-attention");
  for (const auto& [key, unused] : flags.all()) latent |= key.starts_with("MLA");
  if (latent) read_latent_attention(run, flags);
  if (flags.has("mtp-num-layers"))
    run.model["num_mtp_layers"] = static_cast<int64_t>(flags.number("mtp-num-layers", 1));
  run.tied_embeddings = !flags.has("untie-embeddings-and-output-weights") && !bench;
  for (const auto& [key, unused] : flags.all()) {  // "1 dense + 3 MoE layers"
    int dense = 0, sparse = 0;
    if (std::sscanf(key.c_str(), "%d dense + %d", &dense, &sparse) == 2) run.model["num_dense_layers"] = dense;
  }
  if (moe && run.model.value("num_dense_layers", 0) > 0 && !run.model.contains("dense_hidden_size")) {
    run.model["dense_hidden_size"] = run.row.integer("ffn").value_or(0);
  }
  // Megatron pads the vocabulary to a multiple of 128 x tensor; some runs name another one.
  const auto multiple = static_cast<int64_t>(flags.number("make-vocab-size-divisible-by", 128));
  const int64_t unit = multiple * run.parallelism["tensor"].get<int64_t>();
  run.model["vocab_size"] = (run.model["vocab_size"].get<int64_t>() + unit - 1) / unit * unit;

  run.training["hidden_dropout"] = bench ? 0.0 : flags.number("hidden-dropout", 0.1);
  run.training["attention_dropout"] = bench ? 0.0 : flags.number("attention-dropout", 0.1);
  if (flags.has("grad-reduce-in-bf16")) run.training["gradient_precision"] = "bf16";
  const std::string sharding = run.row.text("sharding");
  const bool distributed = contains(sharding, "use-distributed-optimizer") || contains(sharding, "ZeRO-1");
  run.parallelism["zero_stage"] = contains(sharding, "fsdp") ? 3 : distributed ? 1 : 0;
  run.training["overlap"] = flags.has("overlap-grad-reduce") || bench;
  if (bench) run.parallelism["context_kind"] = "alltoall";
  if (flags.get("moe-token-dispatcher-type") == "allgather") run.training["moe"]["dispatcher"] = "allgather";
  if (const double capacity = flags.number("moe-expert-capacity-factor", 0); capacity > 0) {
    run.training["moe"]["dispatch"] = "capacity";
    run.training["moe"]["capacity_factor"] = capacity;
  }
  if (flags.has("recompute-num-layers") || flags.get("recompute-granularity") == "full")
    run.training["recompute"] = "full";
  if (flags.has("recompute-activations")) run.training["recompute"] = {"core_attention"};
  if (const std::string layout = run.row.text("pp_layout"); !layout.empty()) {
    const std::vector<int64_t> layers = expand_layout(layout);
    const auto pipeline = run.parallelism["pipeline"].get<int64_t>();
    if (static_cast<int64_t>(layers.size()) % pipeline != 0) return "pipeline layout does not match the stages";
    run.parallelism["virtual_pipeline"] = static_cast<int64_t>(layers.size()) / pipeline;
    run.parallelism["stage_layers"] = layers;
  }

  const bool engine = flags.get("transformer-impl", "transformer_engine") != "local";
  nlohmann::json options = nlohmann::json::array();
  const auto option = [&](bool present, const char* word) {
    if (present) options.push_back(word);
  };
  const Attention attention = attention_of(run, flags, engine, moe);
  if (attention == Attention::kUnfused) run.training["attention_backend"] = "unfused";
  option(attention == Attention::kFlash, "flash_attention");
  option(attention == Attention::kCudnn, "cudnn_attention");
  option(!engine, "local_layers");
  option(contains(run.row.text("model"), "uninstall_te"), "unfused_softmax");
  option(bench || flags.get("cross-entropy-fusion-impl") == "te", "fused_cross_entropy");
  option(!flags.has("no-gradient-accumulation-fusion") && engine, "gradient_accumulation_fusion");
  option(flags.has("moe-grouped-gemm") || (bench && moe), "grouped_gemm");
  option(flags.has("tp-comm-overlap"), "tensor_overlap");
  option(flags.has("defer-embedding-wgrad-compute"), "deferred_embedding_gradients");
  option(!bench && !flags.has("no-create-attention-mask-in-dataloader"), "attention_mask");
  const bool blackwell = contains(run.row.text("hardware"), "b200");
  const bool deterministic = flags.get("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "1") == "0";
  option(flags.has("CUBLAS_WORKSPACE_CONFIG") || (blackwell && (deterministic || bench)), "large_matrix_workspace");
  if (!options.empty()) run.training["options"] = options;
  return "";
}

}  // namespace mmoe
