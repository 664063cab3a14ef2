#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>

#include "train/checkpoint/model_checkpoint.h"
#include "train/cli/checkpoint_model.h"
#include "train/cli/commands.h"
#include "train/cli/logits_file.h"
#include "train/cli/threads.h"
#include "train/data/dataset.h"
#include "train/loop/evaluate.h"
#include "train/loop/job_requirements.h"

namespace mmoe {
namespace {

// As printed; JSON has null where the bytes of text are unknown.
std::string bits_text(const Evaluation& evaluation) {
  if (std::isnan(evaluation.bits_per_byte)) return "unknown";
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", evaluation.bits_per_byte);
  return text;
}

}  // namespace

ExitCode eval_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "eval";
  command.purpose = "loss and perplexity of a checkpoint at each k, or at a given allocation";
  command.example = "mmoe eval --checkpoint run/checkpoints/step_1000 --data run/tokens --split valid --k 1,2,6";
  command.options.add_options()("checkpoint", po::value<std::string>()->required(), "checkpoint folder")(
      "data", po::value<std::string>()->required(), "prefix of the token files")(
      "split", po::value<std::string>()->default_value("valid"), "train, valid, search or test")(
      "seq-len", po::value<int64_t>(), "length of the windows (default: as trained)")(
      "k", po::value<std::string>(), "numbers of active experts, e.g. 1,2,6 (default: k_min to k_max)")(
      "allocation", po::value<std::string>(), "allocation.json: one k for each MoE layer")(
      "logits", po::value<std::string>(),
      "write the first window's tokens and fp32 logits, by k, to this safetensors file")(
      "max-sequences", po::value<int64_t>()->default_value(0), "evaluate the first windows only (0: all)");
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  if (flags.has("k") && flags.has("allocation")) throw ConfigError("mmoe eval: give --k or --allocation, not both");

  const Dataset data(flags.get("data"));
  const Split split = parse_split(flags.get("split"), "--split");
  const auto seq_len = flags.has("seq-len") ? flags.get<int64_t>("seq-len") : 0;
  if (flags.has("seq-len") && (seq_len < 1 || seq_len > data.tokens(split).num_tokens())) {
    throw ConfigError("--seq-len " + std::to_string(seq_len) + " is out of range; give 1 to the " +
                      std::to_string(data.tokens(split).num_tokens()) + " tokens of the split");
  }
  if (flags.get<int64_t>("max-sequences") < 0) {
    throw ConfigError("--max-sequences " + std::to_string(flags.get<int64_t>("max-sequences")) +
                      " is below 0; give 1 or more, or 0 for all");
  }
  CheckpointModel checkpoint(flags.get("checkpoint"), seq_len);
  check_vocabulary(checkpoint.job(), data, flags.get("data"));
  const EvaluationWindows windows(data.tokens(split), data.tokenizer(), checkpoint.job().training.seq_len,
                                  sample_rules(checkpoint.job().training).documents);
  const auto run = [&](const std::vector<int>& k) {
    return evaluate(checkpoint.transformer(), windows, k, flags.get<int64_t>("max-sequences"), checkpoint.batch());
  };

  std::optional<LogitsFile> logits;
  if (flags.has("logits")) logits.emplace(checkpoint.transformer(), windows);
  nlohmann::ordered_json result;
  result["split"] = flags.get("split");
  if (flags.has("allocation")) {
    const std::vector<int> k = read_allocation(flags.get("allocation"), checkpoint.job());
    const Evaluation evaluation = run(k);
    if (logits) logits->add("logits", k);
    result["k_per_layer"] = k;
    result["loss"] = evaluation.loss;
    result["perplexity"] = std::exp(evaluation.loss);
    result["bits_per_byte"] = evaluation.bits_per_byte;
    result["tokens"] = evaluation.tokens;
    if (!flags.json()) {
      std::printf("loss %.4f nats/token, perplexity %.2f, %s bits/byte over %ld tokens\n", evaluation.loss,
                  std::exp(evaluation.loss), bits_text(evaluation).c_str(), static_cast<long>(evaluation.tokens));
    }
  } else {
    const std::vector<int> ks = evaluated_ks(flags, checkpoint.job());
    if (!flags.json()) std::printf("   k  loss (nats/token)  perplexity  bits/byte\n");
    for (const int k : ks) {
      const std::vector<int> k_per_layer(checkpoint.job().model.num_moe_layers(), k);
      const Evaluation evaluation = run(k_per_layer);
      if (logits) logits->add("logits_k" + std::to_string(k), k_per_layer);
      result["loss_by_k"][std::to_string(k)] = evaluation.loss;
      result["bits_per_byte_by_k"][std::to_string(k)] = evaluation.bits_per_byte;
      result["tokens"] = evaluation.tokens;
      result["bits_per_byte"] = evaluation.bits_per_byte;  // at the last, usually largest, k
      if (!flags.json()) {
        std::printf("%4d  %17.4f  %10.2f  %9s\n", k, evaluation.loss, std::exp(evaluation.loss),
                    bits_text(evaluation).c_str());
        std::fflush(stdout);
      }
    }
  }
  if (logits) logits->write(flags.get("logits"));
  if (flags.json()) std::cout << result.dump(2) << '\n';
  return ExitCode::kDone;
}

}  // namespace mmoe
