#include "train/loop/metrics_log.h"

#include <nlohmann/json.hpp>

#include "train/loop/routing_summary.h"

namespace mmoe {

MetricsLog::MetricsLog(const std::filesystem::path& run_folder, int64_t last_step)
    : log_(run_folder / "metrics.jsonl", last_step) {}

void MetricsLog::write(const StepResult& result, int64_t tokens_per_step) {
  nlohmann::ordered_json line;
  line["step"] = result.step;
  line["tokens"] = result.step * tokens_per_step;
  line["loss"] = result.loss;
  // Draws are whole numbers and written as such; top_p has a mean over tokens.
  nlohmann::ordered_json k = nlohmann::ordered_json::array();
  for (const std::vector<double>& micro_batch : result.k_per_layer) {
    nlohmann::ordered_json row = nlohmann::ordered_json::array();
    for (const double value : micro_batch) {
      if (value == static_cast<double>(static_cast<int64_t>(value))) {
        row.push_back(static_cast<int64_t>(value));
      } else {
        row.push_back(value);
      }
    }
    k.push_back(std::move(row));
  }
  line["k_per_layer"] = std::move(k);
  line["seconds"] = result.seconds;
  line["data_seconds"] = result.data_seconds;
  line["tokens_per_second"] = static_cast<double>(tokens_per_step) / result.seconds;
  line["peak_allocated_bytes"] = result.peak_allocated_bytes;
  line["peak_allocated_bytes_by_rank"] = result.peak_allocated_bytes_by_rank;
  line["peak_reserved_bytes"] = result.peak_reserved_bytes;
  if (result.replayed_reserved) {
    line["replayed_reserved_bytes"] = {{"default", result.replayed_reserved->default_bytes},
                                       {"expandable_segments", result.replayed_reserved->expandable_segments_bytes}};
  }
  line["learning_rate"] = result.learning_rate;
  line["grad_norm"] = result.grad_norm;
  line["load_balance_loss"] = result.load_balance_loss;
  line["z_loss"] = result.z_loss;
  for (const RoutingMetrics& routing : result.routing) {
    const RoutingSummary summary = summarize(routing);
    line["moe"].push_back({{"layer", routing.layer},
                           {"k", routing.k},
                           {"tokens_per_expert",
                            {{"min", summary.min_tokens},
                             {"max", summary.max_tokens},
                             {"cv", summary.tokens_cv},
                             {"by_expert", routing.tokens_per_expert}}},
                           {"router_entropy", routing.entropy},
                           {"dead_experts", summary.dead_experts}});
  }
  log_.write(line);
}

}  // namespace mmoe
