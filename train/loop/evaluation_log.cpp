#include "train/loop/evaluation_log.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "train/loop/evaluate.h"

namespace mmoe {

StepEvaluator::StepEvaluator(const EvaluationSettings& settings, const Job& job, const DataBlend& data)
    : settings_(settings),
      moe_layers_(job.model.num_moe_layers()),
      batch_(evaluation_batch(job.training.seq_len)),
      sharing_(job.parallelism.tensor * job.parallelism.context) {
  if (job.parallelism.pipeline > 1) {
    throw ConfigError(job.where + ": parallelism.pipeline = " + std::to_string(job.parallelism.pipeline) +
                      " cannot be evaluated while it trains; leave --eval-interval out and run `mmoe eval` on the "
                      "checkpoints");
  }
  const bool blend = data.prefixes().size() > 1;
  for (size_t i = 0; i < data.prefixes().size(); ++i) {
    names_.push_back(blend ? data.prefixes()[i].prefix : "");
    windows_.emplace_back(data.dataset(i).tokens(settings.split), data.dataset(i).tokenizer(), job.training.seq_len,
                          sample_rules(job.training).documents);
  }
}

std::vector<StepEvaluation> StepEvaluator::evaluate(int64_t step, Transformer& transformer,
                                                    const Communicator& world) const {
  std::vector<StepEvaluation> result;
  for (size_t i = 0; i < windows_.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    const int64_t seq_len = windows_[i].seq_len(), most = (settings_.tokens + seq_len - 1) / seq_len;
    StepEvaluation& evaluation = result.emplace_back();
    evaluation.step = step;
    evaluation.data = names_[i];
    for (const int k : settings_.ks) {
      const std::vector<int> k_per_layer(static_cast<size_t>(moe_layers_), k);
      const Evaluation at_k = mmoe::evaluate(transformer, windows_[i], k_per_layer, most, batch_, world, sharing_);
      evaluation.by_k.push_back({k, at_k.loss, at_k.bits_per_byte});
      evaluation.tokens = at_k.tokens;
    }
    evaluation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return result;
}

EvaluationLog::EvaluationLog(const std::filesystem::path& run_folder, int64_t last_step)
    : log_(run_folder / "evaluations.jsonl", last_step) {}

void EvaluationLog::write(const StepEvaluation& evaluation, Split split) {
  nlohmann::ordered_json line = {{"step", evaluation.step}};
  if (!evaluation.data.empty()) line["data"] = evaluation.data;
  line["split"] = split_name(split);
  line["tokens"] = evaluation.tokens;
  line["seconds"] = evaluation.seconds;
  for (const EvaluationAtK& at_k : evaluation.by_k) {
    line["loss_by_k"][std::to_string(at_k.k)] = at_k.loss;
    line["bits_per_byte_by_k"][std::to_string(at_k.k)] = at_k.bits_per_byte;  // JSON writes NaN as null
  }
  log_.write(line);
}

}  // namespace mmoe
