#include "train/interchange/recipes.h"

namespace mmoe {
namespace {

// The name of an architecture in GGUF files. Mixtral is a Llama with experts there.
std::string gguf_name(const std::string& model_type) {
  if (model_type == "mixtral") return "llama";
  if (model_type == "qwen2_moe") return "qwen2moe";
  if (model_type == "qwen3_moe") return "qwen3moe";
  return model_type;
}

}  // namespace

std::string serving_recipes(const std::string& folder, const std::string& model_type, int k) {
  const std::string number = std::to_string(k), json = "'{\"num_experts_per_tok\": " + number + "}'";
  return "One number of experts for all layers (here " + number +
         "):\n"
         "  transformers  AutoModelForCausalLM.from_pretrained(\"" +
         folder + "\", num_experts_per_tok=" + number +
         ")\n"
         "  vLLM          vllm serve " +
         folder + " --hf-overrides " + json +
         "\n"
         "  SGLang        python -m sglang.launch_server --model-path " +
         folder + " --json-model-override-args " + json +
         "\n"
         "  llama.cpp     llama-server -m MODEL.gguf --override-kv " +
         gguf_name(model_type) + ".expert_used_count=int:" + number +
         "\n"
         "A number for each layer (k_plan.json): no stock server has that. In transformers the loader beside the "
         "model\n"
         "sets it: from k_plan import apply_k_plan; apply_k_plan(model, \"" +
         folder + "\")\n";
}

}  // namespace mmoe
