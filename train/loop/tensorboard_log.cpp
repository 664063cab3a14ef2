#include "train/loop/tensorboard_log.h"

#include <cmath>

#include "train/loop/routing_summary.h"

namespace mmoe {

TensorBoardLog::TensorBoardLog(const std::filesystem::path& run_folder, int64_t last_step)
    : file_(run_folder / "tensorboard", last_step + 1) {}

void TensorBoardLog::write(const StepResult& result, int64_t tokens_per_step) {
  std::vector<Scalar> scalars = {{"train/loss", result.loss},
                                 {"train/tokens_per_second", static_cast<double>(tokens_per_step) / result.seconds},
                                 {"train/peak_allocated_bytes", static_cast<double>(result.peak_allocated_bytes)},
                                 {"train/learning_rate", result.learning_rate},
                                 {"train/grad_norm", result.grad_norm},
                                 {"train/load_balance_loss", result.load_balance_loss},
                                 {"train/z_loss", result.z_loss}};
  if (const auto k = mean_k(result)) scalars.push_back({"train/k_mean", *k});
  for (const RoutingMetrics& routing : result.routing) {
    const std::string prefix = "moe/layer_" + std::to_string(routing.layer) + "/";
    const RoutingSummary summary = summarize(routing);
    scalars.push_back({prefix + "k", routing.k});
    scalars.push_back({prefix + "tokens_per_expert_min", static_cast<double>(summary.min_tokens)});
    scalars.push_back({prefix + "tokens_per_expert_max", static_cast<double>(summary.max_tokens)});
    scalars.push_back({prefix + "tokens_per_expert_cv", summary.tokens_cv});
    scalars.push_back({prefix + "router_entropy", routing.entropy});
    scalars.push_back({prefix + "dead_experts", static_cast<double>(summary.dead_experts)});
  }
  file_.add(result.step, scalars);
}

void TensorBoardLog::write(const StepEvaluation& evaluation) {
  const std::string prefix = evaluation.data.empty() ? "eval/" : "eval/" + evaluation.data + "/";
  std::vector<Scalar> scalars;
  for (const EvaluationAtK& at_k : evaluation.by_k) {
    const std::string suffix = "_k" + std::to_string(at_k.k);
    scalars.push_back({prefix + "loss" + suffix, at_k.loss});
    if (!std::isnan(at_k.bits_per_byte)) scalars.push_back({prefix + "bits_per_byte" + suffix, at_k.bits_per_byte});
  }
  file_.add(evaluation.step, scalars);
}

}  // namespace mmoe
