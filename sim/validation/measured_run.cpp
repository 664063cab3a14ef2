#include "sim/validation/measured_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "sim/cluster/stages.h"
#include "sim/config/enum_names.h"
#include "sim/config/json_text.h"
#include "sim/config/model_preset.h"
#include "sim/formulas/model_flops.h"
#include "sim/units/errors.h"
#include "sim/validation/megatron_run.h"
#include "sim/validation/run_flags.h"

namespace mmoe {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Our name of a table's hardware; empty where no device file fits.
std::string device_of(const std::string& hardware) {
  const std::string text = lower(hardware);
  static constexpr std::array<std::pair<const char*, const char*>, 12> kDevices = {{{"gb300", "gb300"},
                                                                                    {"gb200", "gb200"},
                                                                                    {"b300", "gb300"},
                                                                                    {"b200", "b200-sxm-180gb"},
                                                                                    {"h200", "h200-sxm-141gb"},
                                                                                    {"h800", "h800-sxm-80gb"},
                                                                                    {"h100 96gb", "h100-sxm-96gb"},
                                                                                    {"h100", "h100-sxm-80gb"},
                                                                                    {"mi300x", "mi300x"},
                                                                                    {"mi355x", "mi355x"},
                                                                                    {"v100", "v100-sxm-32gb"},
                                                                                    {"ampere", "a100-sxm-80gb"}}};
  for (const auto& [part, name] : kDevices) {
    if (contains(text, part)) return name;
  }
  if (contains(text, "a100") || contains(text, "a800")) {
    return contains(text, "40gb") && !contains(text, "80gb") ? "a100-sxm-40gb" : "a100-sxm-80gb";
  }
  return "";
}

// Whether the row's own bandwidths are those of the slow of the two fabrics that the nanotron sweep ran on: all-reduce
// that halves at each doubling of the devices. The fast one keeps 170 GB/s and more from 32 devices on.
bool on_slow_fabric(const CsvRow& row, double devices, bool newer_release) {
  const std::optional<double> reduce = row.number("allreduce_GBps"), gather = row.number("allgather_GBps");
  if (!reduce || !gather) return devices > 8 && newer_release;
  static constexpr std::array<std::array<double, 7>, 4> kMedians = {{{458, 428, 206, 187, 173, 189, 172},
                                                                     {425, 330, 160, 94, 50, 26, 13},
                                                                     {263, 225, 224, 172, 124, 75, 43},
                                                                     {241, 164, 98, 53, 27, 13.5, 6.6}}};
  const auto index = static_cast<std::size_t>(std::clamp(std::round(std::log2(devices)) - 3, 0.0, 6.0));
  return *reduce < std::sqrt(kMedians[0][index] * kMedians[1][index]) &&
         *gather < std::sqrt(kMedians[2][index] * kMedians[3][index]);
}

std::string framework_of(const CsvRow& row, const std::string& device, double devices) {
  const std::string name = lower(row.text("framework"));
  const std::string flags = row.text("flags");
  if (contains(name, "nanotron")) {
    const bool newer = contains(flags, "after_pp_fix");
    const bool slow = on_slow_fabric(row, devices, newer);
    return slow ? "nanotron_slow_fabric" : "nanotron";
  }
  if (contains(name, "megatron-deepspeed")) return devices <= 8 ? "megatron_deepspeed_node" : "megatron_deepspeed";
  if (contains(name, "llm-foundry")) return "llm_foundry";
  if (contains(name, "bridge")) {
    // Releases from 26.06 on launch MoE layers with less host time on Blackwell.
    int year = 0, month = 0;
    const bool known = std::sscanf(row.text("table").c_str(), "%d.%d", &year, &month) == 2;
    const bool newer = known && year * 100 + month >= 2606 && !device.starts_with("h100");
    return newer ? "megatron_bridge_26_06" : "megatron_bridge";
  }
  if (contains(name, "automodel") || contains(name, "torchtitan")) return "torch_fsdp";
  if (contains(name, "nemo")) return "nemo";
  if (contains(name, "0.14")) return "megatron_core_0_14";
  if (contains(flags, "transformer-impl")) return "megatron_core_ci";
  if (contains(name, "zero-3")) return "deepspeed_zero3";
  if (name.ends_with("-megatron") || name.ends_with("-flagscale")) return "flagperf";  // named after its cases
  if (contains(name, "fsdp") || contains(name, "tp + ep") || contains(name, "mcore")) return "megatron_core_bench";
  if (contains(name, "megatron-lm") && device.starts_with("a100")) return "megatron_lm";
  return "megatron_core";
}

// Sizes that a table leaves blank, from the preset whose name the model's name starts with.
nlohmann::json published_architecture(const std::string& model) {
  std::string name = lower(model);
  std::replace(name.begin(), name.end(), ' ', '-');
  std::replace(name.begin(), name.end(), '_', '-');
  static constexpr std::array<std::pair<const char*, const char*>, 12> kFamilies = {
      {{"deepseekv3", "deepseek-v3"},
       {"deepseek-v3", "deepseek-v3"},
       {"deepseekv2", "deepseek-v2"},
       {"deepseek-v2", "deepseek-v2"},
       {"grok", "grok-1"},
       {"gpt-3-175b", "gpt3-175b"},
       {"gpt3-175b", "gpt3-175b"},
       {"nemotron-4", "nemotron-4-340b"},
       {"kimi-k2", "kimi-k2"},
       {"llama-4-maverick", "llama4-maverick"},
       {"mixtral-8x22b", "mixtral-8x22b"},
       {"mixtral-8x7b", "mixtral-8x7b"}}};
  for (const auto& [start, preset] : kFamilies) {
    if (!name.starts_with(start)) continue;
    return parse_json(preset_text("models", preset, "model"), preset)["model"];
  }
  return nlohmann::json::object();
}

std::optional<int64_t> or_preset(const CsvRow& row, const char* column, const nlohmann::json& preset, const char* key) {
  if (const auto value = row.integer(column)) return value;
  if (preset.contains(key)) return preset[key].get<int64_t>();
  return std::nullopt;
}

std::string precision_of(const std::string& text) {
  const std::string precision = lower(text);
  if (contains(precision, "fp4")) return "fp4";
  if (contains(precision, "fp8") || contains(precision, "float8")) return "fp8";
  if (precision == "fp32") return "fp32";
  if (precision.starts_with("fp16") && !contains(precision, "bf16")) return "fp16";
  return "bf16";
}

nlohmann::json recompute_of(const std::string& text) {
  const std::string recompute = lower(text);
  if (recompute.starts_with("full")) return "full";
  nlohmann::json modules = nlohmann::json::array();
  const auto add = [&](const char* word, const char* module) {
    if (contains(recompute, word)) modules.push_back(module);
  };
  if (recompute == "selective" || contains(recompute, "core_attn") || contains(recompute, "selective(attn)")) {
    modules.push_back("core_attention");
  }
  add("mla_up_proj", "mla_up_projection");
  add("mlp", "mlp");
  add("moe_act", "moe_activation");
  add("layernorm", "norm");
  return modules.empty() ? nlohmann::json("none") : modules;
}

// Layers that are dense at the start, from "([0]*3+[1]*11)"; nothing where the text says otherwise.
std::optional<int64_t> leading_dense(const std::string& pattern) {
  if (pattern.empty() || pattern == "1") return 0;
  int64_t zeros = 0, ones = 0;
  if (std::sscanf(pattern.c_str(), "([0]*%ld+[1]*%ld)", &zeros, &ones) == 2) return zeros;
  return std::nullopt;
}

// Above any cluster and any batch in samples; products of three stay below 2^63.
constexpr int64_t kLargestCount = 1 << 20;

struct Unmodelled : std::runtime_error {
  using std::runtime_error::runtime_error;
};

nlohmann::json job_json(const CsvRow& row, MeasuredRun& run) {
  const nlohmann::json preset = published_architecture(row.text("model"));
  const auto required = [](std::optional<int64_t> value, const char* what) {
    if (!value || *value <= 0 || *value > kLargestCount) throw Unmodelled(std::string(what) + " missing");
    return *value;
  };
  const auto degree = [&](const char* column) {
    return std::clamp<int64_t>(row.integer(column).value_or(1), 1, kLargestCount);
  };
  const std::string device = device_of(row.text("hardware"));
  if (device.empty())
    throw Unmodelled("no device file for " + (row.text("hardware").empty() ? "a blank" : row.text("hardware")));
  const std::string text = lower(row.text("table") + " " + row.text("notes") + " " + row.text("model"));
  if (contains(text, "fine-tuning") || contains(text, "lora") || contains(text, "sft"))
    throw Unmodelled("fine-tuning, not pre-training");

  const int64_t hidden = required(or_preset(row, "hidden", preset, "hidden_size"), "model sizes");
  const int64_t layers = required(row.integer("layers"), "model sizes");
  const int64_t heads = required(or_preset(row, "heads", preset, "num_heads"), "number of heads");
  const int64_t experts = or_preset(row, "experts", preset, "num_experts").value_or(0);
  const int64_t seq_len = required(row.integer("seq"), "sequence length");
  const int64_t tensor = degree("tp"), pipeline = degree("pp"), context = degree("cp");
  int64_t virtual_pipeline = degree("vpp");
  // None where the column is empty; what is no count of at least 1 is a fault of the table.
  const auto count = [&](const char* column) {
    const std::optional<int64_t> value = row.integer(column);
    if (value && (*value < 1 || *value > kLargestCount))
      throw Unmodelled(std::string(column) + " is no possible number");
    return value;
  };
  std::optional<int64_t> data = count("dp");
  std::optional<int64_t> devices = count("n_gpus");
  if (row.text("tp").empty()) throw Unmodelled("layout missing");
  if (experts > 0 && row.text("pp").empty()) throw Unmodelled("layout missing");
  if (!devices && data) devices = *data * tensor * pipeline * context;
  if (!devices) throw Unmodelled("number of devices missing");
  if (*devices % (tensor * pipeline * context) != 0) throw Unmodelled("devices are no multiple of the layout");
  if (!data) data = *devices / (tensor * pipeline * context);
  const int64_t micro_batch = degree("micro_batch");
  int64_t global_batch = count("global_batch").value_or(0);
  if (global_batch == 0) throw Unmodelled("global batch missing");
  // A batch that the named replicas cannot divide: the run had fewer of them.
  if (global_batch % (micro_batch * *data) != 0)
    data = std::gcd(*data, std::max<int64_t>(1, global_batch / micro_batch));
  devices = *data * tensor * pipeline * context;
  if (global_batch % (micro_batch * *data) != 0) throw Unmodelled("micro-batches do not divide the global batch");

  const std::string framework = framework_of(row, device, static_cast<double>(*devices));
  // Where the source says of a pipeline only that it is interleaved, or benchmarks Megatron-Core at its best, it is
  // taken as interleaved layer by layer.
  const bool interleaved = contains(lower(row.text("vpp")), "interleaved") || contains(text, "interleaved 1f1b");
  const bool at_its_best = framework == "megatron_core_bench" && row.text("vpp").empty() && layers % pipeline == 0;
  if (pipeline > 1 && ((interleaved && !row.integer("vpp")) || at_its_best)) virtual_pipeline = layers / pipeline;
  nlohmann::json model = {{"hidden_size", hidden},
                          {"num_layers", layers},
                          {"num_heads", heads},
                          {"num_kv_heads", or_preset(row, "kv_heads", preset, "num_kv_heads").value_or(heads)},
                          {"vocab_size", or_preset(row, "vocab", preset, "vocab_size").value_or(51200)}};
  const auto dense = or_preset(row, "ffn", preset, "dense_hidden_size");
  int64_t ffn = dense.value_or(0);
  if (ffn == 0 && experts == 0) ffn = 4 * hidden;
  // A feed-forward width of four hidden sizes is the shape of models without a gate, but nanotron's are all Llamas.
  const bool gated = ffn != 4 * hidden || experts > 1 || framework.starts_with("nanotron");
  model["activation"] = gated ? "swiglu" : "gelu";
  if (!gated) {
    model["norm"] = "layer";
    model["linear_bias"] = !contains(framework, "llm_foundry");
    model["position"] = "learned";
    model["max_position_embeddings"] = seq_len;
  }
  for (const char* key :
       {"head_dim", "attention", "q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "v_head_dim", "qk_norm"}) {
    if (preset.contains(key)) model[key] = preset[key];
  }
  if (contains(lower(row.text("model")), "qwen3")) model["head_dim"] = 128;
  if (experts > 1) {
    const int64_t width = or_preset(row, "expert_ffn", preset, "expert_hidden_size").value_or(ffn);
    model["num_experts"] = experts;
    model["expert_hidden_size"] = width;
    model["shared_expert_hidden_size"] =
        or_preset(row, "shared_expert_ffn", preset, "shared_expert_hidden_size").value_or(0);
    model["top_k"] = or_preset(row, "topk", preset, "top_k").value_or(1);
    // The groups of node-limited routing, where the model has all of its experts.
    for (const char* key : {"n_group", "topk_group"}) {
      if (preset.contains(key) && preset["num_experts"] == experts) model[key] = preset[key];
    }
    int64_t leading = preset.value("num_dense_layers", int64_t{0});
    if (leading >= layers) leading = 1;  // a model cut to few layers keeps one dense layer
    if (const auto pattern = leading_dense(row.text("moe_layer_freq")); !row.text("moe_layer_freq").empty()) {
      if (!pattern) throw Unmodelled("dense layers between MoE layers");
      leading = *pattern;
    }
    model["num_dense_layers"] = leading;
    if (leading > 0) model["dense_hidden_size"] = ffn > 0 ? ffn : width;
  } else {
    model["dense_hidden_size"] = ffn;
  }

  const int64_t expert = experts > 1 ? degree("ep") : 1;
  int64_t expert_tensor = count("etp").value_or(0);
  if (experts <= 1) expert_tensor = 1;
  const int64_t per_stage = *devices / pipeline;
  // The frameworks' default is the attention's tensor parallel size; where that cannot divide the ranks it was 1.
  if (expert_tensor == 0) expert_tensor = per_stage % (expert * tensor) == 0 ? tensor : 1;
  nlohmann::json parallelism = {{"tensor", tensor},
                                {"pipeline", pipeline},
                                {"context", context},
                                {"virtual_pipeline", virtual_pipeline},
                                {"expert", expert},
                                {"expert_tensor", expert_tensor},
                                {"sequence", row.text("sp") != "0" && row.text("sp") != "False" && tensor > 1}};
  const std::string sharding = lower(row.text("sharding"));
  int64_t zero = 1;
  if (contains(sharding, "zero-3") || contains(sharding, "fsdp") || contains(sharding, "full_shard")) zero = 3;
  if (contains(sharding, "shard_grad")) zero = 2;
  if (contains(sharding, "zero-0") || contains(sharding, "none") || sharding.starts_with("no ")) zero = 0;
  if (contains(sharding, "no reshard")) zero = 2;
  if (framework.starts_with("megatron_deepspeed") || framework == "megatron_lm") zero = 0;
  parallelism["zero_stage"] = zero;

  nlohmann::json training = {{"seq_len", seq_len},
                             {"micro_batch_size", micro_batch},
                             {"global_batch_size", global_batch},
                             {"framework", framework},
                             {"precision", precision_of(row.text("precision"))},
                             {"recompute", recompute_of(row.text("recompute"))}};
  // Selective recomputation of torchtitan: of every second layer, or of every second product of all layers and what
  // lies between (torchtitan, distributed/activation_checkpoint.py), which is about as much.
  if (contains(lower(row.text("framework")), "torchtitan") && lower(row.text("recompute")).starts_with("selective")) {
    training["recompute"] = "full";
    training["recompute_num_layers"] = std::max<int64_t>(1, layers / (pipeline * virtual_pipeline) / 2);
  }
  const std::string routing = lower(row.text("routing"));
  if (contains(routing, "padded")) training["moe"] = {{"dispatch", "padded"}};
  const bool drops = contains(routing, "cf=1") || contains(routing, "token-drop");
  if (drops) training["moe"] = {{"dispatch", "capacity"}};
  // DeepEP and HybridEP send a token to a node once; Megatron-Bridge's performance recipes dispatch by them, but where
  // tokens are dropped: that asks for the all-to-all (Megatron-Bridge, training/utils/moe_token_drop.py).
  if ((framework.starts_with("megatron_bridge") && !drops) || contains(text, "deepep") || contains(text, "hybridep"))
    training["moe"]["dispatcher"] = "hierarchical";
  // NVIDIA's performance recipes sum gradients in bf16 (grad_reduce_in_fp32 = False).
  if (framework == "nemo" || framework.starts_with("megatron_bridge")) training["gradient_precision"] = "bf16";
  nlohmann::json options = nlohmann::json::array();
  if (framework == "torch_fsdp") {
    if (contains(text, "async tp") || contains(text, "asynctp")) options.push_back("async_tensor");
    if (contains(lower(row.text("precision")), "rowwise")) options.push_back("row_scales");
  }
  // Megatron-Core's --overlap-moe-expert-parallel-comm.
  if (framework == "megatron_core" && contains(text, "a2a overlap")) options.push_back("async_expert");
  bool tied = contains(row.text("flags"), "tied_embeddings");
  if (framework == "megatron_core_0_14" || framework == "megatron_core" || framework == "megatron_core_ci") {
    MegatronRun megatron{row, framework, model, parallelism, training, run};
    const std::string reason = read_megatron_flags(megatron);
    if (!reason.empty()) throw Unmodelled(reason);
    tied = megatron.tied_embeddings;
    for (const auto& option : training.value("options", nlohmann::json::array())) options.push_back(option);
  }
  if (framework == "megatron_core_bench") {
    // Not said by the source: sharded rivals are taken as fully recomputed.
    if (contains(lower(row.text("framework")), "fsdp")) {
      parallelism["zero_stage"] = 3;
      training["recompute"] = "full";
    }
  }
  if (framework == "megatron_deepspeed_node") training["recompute"] = "none";  // its file says why
  if (framework.starts_with("megatron_deepspeed") || framework == "megatron_lm") {
    training["attention_backend"] = "unfused";
    training["attention_dropout"] = 0.1;
    training["hidden_dropout"] = 0.1;
    training["overlap"] = false;
    tied = true;
  }
  if (framework.starts_with("nanotron")) {
    // The release that gathers again in the backward pass is told by its flag or by the slow fabric, on which no other
    // ran.
    if (!contains(row.text("flags"), "after_pp_fix") && framework == "nanotron") {
      options.push_back("keep_gathered_inputs");
    }
    training["overlap"] = false;
  }
  if (!options.empty()) training["options"] = options;
  model["tie_embeddings"] = tied;
  if (pipeline * virtual_pipeline > layers) throw Unmodelled("more pipeline chunks than layers");
  if (virtual_pipeline > 1 && pipeline == 1) parallelism["virtual_pipeline"] = 1;
  return {{"model", model},
          {"hardware", {{"device", device}, {"num_devices", *devices}}},
          {"parallelism", parallelism},
          {"training", training}};
}

void read_measurements(const CsvRow& row, MeasuredRun& run) {
  const Job& job = run.job;
  const double tokens = static_cast<double>(job.training.global_batch_size) * static_cast<double>(job.training.seq_len);
  const auto devices = static_cast<double>(job.hardware.num_devices);
  const std::string framework = lower(row.text("framework"));
  const std::string status = row.text("status");
  if (status == "OOM" || status == "ok") {
    if (framework.starts_with("nanotron")) run.fits = status == "ok" && !contains(row.text("flags"), "oom_flag");
  }
  if (status == "OOM") return;
  // Pipelines of nanotron before the release with after_pp_fix ran wrongly: what they measured does not count.
  if (framework.starts_with("nanotron") && job.parallelism.pipeline > 1 && !contains(row.text("flags"), "after_pp_fix"))
    return;
  if (const auto seconds = row.number("iter_time_s")) {
    run.step_seconds = *seconds;
  } else if (const auto rate = row.number("tokens_s_gpu")) {
    run.step_seconds = tokens / (*rate * devices);
  } else if (const auto flops = row.number("tflops_per_gpu")) {
    run.mfu = *flops * 1e12 / job.hardware.spec.peak_bf16.value;
  } else if (const auto mfu = row.number("mfu_pct")) {
    run.mfu = *mfu / 100;
  }
  constexpr double kGiB = 1073741824;
  const std::string kind = lower(row.text("mem_kind"));
  if (const auto memory = row.number("mem_GiB")) {
    if (contains(kind, "reserved (caching")) run.peak_reserved_bytes = *memory * kGiB;
    if (kind == "peak allocated" || kind.starts_with("max allocated")) run.peak_allocated_bytes = *memory * kGiB;
  }
  if (const auto memory = row.number("mem_static_GiB")) run.static_bytes = *memory * kGiB;
  run.last_rank_only = contains(row.text("notes"), "last global rank");
}

// Whether the run was faster than its precision's peak allows: it ran in another one (TF32 for fp32).
bool beats_its_peak(const MeasuredRun& run) {
  const Job& job = run.job;
  if (!run.step_seconds) return false;
  const double flops = model_step_flops(job.model, static_cast<double>(job.training.seq_len),
                                        static_cast<double>(job.training.global_batch_size),
                                        static_cast<double>(job.elastic.k_max * job.model.num_moe_layers()))
                           .value;
  return flops / *run.step_seconds / static_cast<double>(job.hardware.num_devices) >
         peak_of(job.hardware.spec, job.training.precision).value;
}

std::string stratum_of(const CsvRow& row, const Job& job) {
  const bool one_node = job.hardware.num_devices <= job.hardware.devices_per_node;
  std::string stratum = job.training.framework;
  if (job.training.has_option("local_layers")) stratum += " local";
  stratum += job.model.num_moe_layers() > 0 ? " MoE" : " dense";
  if (job.parallelism.context > 1) stratum += " context";
  stratum += one_node ? " one node" : " several nodes";
  if (contains(row.text("notes"), "implies unfused attention")) stratum += ", contradicts its configuration";
  return stratum;
}

}  // namespace

RunOrReason measured_run(const CsvRow& row) {
  MeasuredRun run;
  run.id = row.text("id");
  try {
    run.job = parse_job(job_json(row, run), "row " + run.id, "/");
    read_measurements(row, run);
    if (run.job.training.framework.starts_with("nanotron") && row.text("status") == "Other")
      return {std::nullopt, "neither ran nor ran out of memory"};
    if (beats_its_peak(run)) return {std::nullopt, "faster than the device's peak at the named precision"};
    run.stratum = stratum_of(row, run.job);
    if (run.job.training.framework == "megatron_core_bench") run.convention = FlopsConvention::kCausalAttention;
    const std::string notes = lower(row.text("notes"));
    if (contains(notes, "include recompute") || contains(notes, "incl. recompute") || contains(notes, "hfu")) {
      run.convention = FlopsConvention::kWithRecomputation;
    }
    if (!run.step_seconds && !run.mfu && !run.peak_allocated_bytes && !run.peak_reserved_bytes && !run.static_bytes &&
        !run.fits) {
      return {std::nullopt, "measures nothing that is predicted"};
    }
    return {std::move(run), ""};
  } catch (const Unmodelled& reason) {
    return {std::nullopt, reason.what()};
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    return {std::nullopt, text.substr(text.find(": ") + 2)};
  }
}

}  // namespace mmoe
