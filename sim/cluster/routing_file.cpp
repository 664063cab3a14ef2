#include "sim/cluster/routing_file.h"

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

bool read_numbers(const nlohmann::json& json, std::vector<double>& numbers) {
  if (!json.is_array()) return false;
  for (const nlohmann::json& value : json) {
    if (!value.is_number()) return false;
    numbers.push_back(value.get<double>());
  }
  return true;
}

// False where the line is no step of a model with so many experts.
bool read_step(const nlohmann::json& step, std::size_t num_experts, std::vector<RoutedLayer>& layers) {
  for (const nlohmann::json& json : step["moe"]) {
    const nlohmann::json::json_pointer place("/tokens_per_expert/by_expert");
    RoutedLayer& layer = layers.emplace_back();
    if (!json.is_object() || !read_numbers(json.value(place, nlohmann::json()), layer.rows)) return false;
    if (layer.rows.size() != num_experts) return false;
  }
  if (!step.contains("k_per_layer")) return true;
  for (const nlohmann::json& micro_batch : step["k_per_layer"]) {
    std::vector<double> k;
    if (!read_numbers(micro_batch, k) || k.size() != layers.size()) return false;
    for (std::size_t l = 0; l < k.size(); ++l) layers[l].k.push_back(k[l]);
  }
  return true;
}

}  // namespace

std::vector<std::vector<RoutedLayer>> routed_steps(const Job& job) {
  const std::string& path = job.training.moe.load_file;
  std::vector<std::vector<RoutedLayer>> steps;
  int64_t number = 0;
  for (const nlohmann::json& step : read_json_lines(path, "training.moe.load names it")) {
    ++number;
    const bool is_step = step.is_object();
    if (is_step && !step.contains("moe")) continue;
    if (!is_step || !read_step(step, static_cast<std::size_t>(job.model.num_experts), steps.emplace_back())) {
      throw ConfigError(path + ": line " + std::to_string(number) + " is no step of a model with " +
                        std::to_string(job.model.num_experts) + " experts (moe[].tokens_per_expert.by_expert)");
    }
  }
  if (steps.empty()) throw ConfigError(path + ": tells of no routing; run `mmoe train` with --moe-metrics 1");
  return steps;
}

}  // namespace mmoe
