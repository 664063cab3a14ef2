#include "train/cli/k_flags.h"

#include "sim/config/json_text.h"

namespace mmoe {

std::vector<int> evaluated_ks(const Flags& flags, const Job& job, const std::string& name) {
  std::vector<int> ks;
  if (!flags.has(name)) {
    for (int k = job.elastic.k_min; k <= job.elastic.k_max; ++k) ks.push_back(k);
    return ks;
  }
  for (const double value : parse_numbers(flags.get(name), "--" + name)) {
    const int k = static_cast<int>(value);
    if (k != value || k < 1 || k > job.model.num_experts) {
      throw ConfigError(
          "--" + name + " " + flags.get(name) +
          ": each must be a whole number from 1 to model.num_experts = " + std::to_string(job.model.num_experts));
    }
    ks.push_back(k);
  }
  return ks;
}

std::vector<int> chosen_k(const Flags& flags, const Job& job) {
  if (flags.has("k") && flags.has("allocation")) throw ConfigError("give --k or --allocation, not both");
  const int64_t layers = job.model.num_moe_layers();
  if (layers == 0 && (flags.has("k") || flags.has("allocation"))) {
    throw ConfigError(job.where + ": the model is dense; leave --k and --allocation out");
  }
  if (flags.has("allocation")) return read_allocation(flags.get("allocation"), job);
  int k = job.elastic.k_max;
  if (flags.has("k")) {
    const std::vector<int> ks = evaluated_ks(flags, job);
    if (ks.size() != 1) throw ConfigError("--k " + flags.get("k") + ": give one number, or a plan with --allocation");
    k = ks[0];
  }
  return std::vector<int>(static_cast<size_t>(layers), k);
}

std::vector<int> read_allocation(const std::string& path, const Job& job) {
  const nlohmann::json file = read_json_file(path);
  const std::string rule = "; it must be a list of " + std::to_string(job.model.num_moe_layers()) +
                           " whole numbers from 1 to " + std::to_string(job.model.num_experts) +
                           ", one for each MoE layer, as `mmoe allocate` writes it";
  if (!file.is_object() || !file.contains("k_per_layer") || !file["k_per_layer"].is_array()) {
    throw ConfigError(path + ": has no list k_per_layer" + rule);
  }
  std::vector<int> k;
  for (const nlohmann::json& value : file["k_per_layer"]) {
    if (!value.is_number_integer() || value.get<int64_t>() < 1 || value.get<int64_t>() > job.model.num_experts) {
      throw ConfigError(path + ": k_per_layer holds " + value.dump() + rule);
    }
    k.push_back(value.get<int>());
  }
  if (static_cast<int64_t>(k.size()) != job.model.num_moe_layers()) {
    throw ConfigError(path + ": k_per_layer has " + std::to_string(k.size()) + " entries" + rule);
  }
  return k;
}

}  // namespace mmoe
