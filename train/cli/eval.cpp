#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>

#include "train/checkpoint/model_checkpoint.h"
#include "train/cli/commands.h"
#include "train/cli/k_flags.h"
#include "train/cli/logits_file.h"
#include "train/cli/threads.h"
#include "train/data/data_flag.h"
#include "train/loop/evaluate.h"
#include "train/loop/inference_model.h"
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

// One split of every data set of --data, and of their blend.
class EvaluatedData {
 public:
  EvaluatedData(const DataBlend& data, Split split, const Job& job) {
    for (size_t i = 0; i < data.prefixes().size(); ++i) {
      windows_.emplace_back(data.dataset(i).tokens(split), data.dataset(i).tokenizer(), job.training.seq_len,
                            sample_rules(job.training).documents);
      weights_.push_back(data.prefixes()[i].weight);
      names_.push_back(data.prefixes()[i].prefix);
    }
  }

  bool is_blend() const { return windows_.size() > 1; }
  const std::vector<std::string>& names() const { return names_; }
  const EvaluationWindows& first() const { return windows_.front(); }

  // By data set.
  std::vector<Evaluation> parts(InferenceModel& checkpoint, const std::vector<int>& k, int64_t max_windows) const {
    std::vector<Evaluation> parts;
    for (const EvaluationWindows& windows : windows_) {
      parts.push_back(evaluate(checkpoint.transformer(), windows, k, max_windows,
                               evaluation_batch(checkpoint.job().training.seq_len)));
    }
    return parts;
  }
  std::vector<double> shares(const std::vector<Evaluation>& parts) const { return blend_shares(parts, weights_); }
  Evaluation whole(const std::vector<Evaluation>& parts) const {
    return is_blend() ? blended(parts, shares(parts)) : parts.front();
  }

 private:
  std::vector<EvaluationWindows> windows_;
  std::vector<double> weights_;
  std::vector<std::string> names_;
};

void check_seq_len(int64_t seq_len, const DataBlend& data, Split split) {
  for (size_t i = 0; i < data.prefixes().size(); ++i) {
    const int64_t tokens = data.dataset(i).tokens(split).num_tokens();
    if (seq_len >= 1 && seq_len <= tokens) continue;
    throw ConfigError("--seq-len " + std::to_string(seq_len) + " is out of range; give 1 to the " +
                      std::to_string(tokens) + " tokens of the split in " + data.prefixes()[i].prefix);
  }
}

void print_row(const std::string& first, const Evaluation& evaluation, const std::string& name) {
  std::printf("%s  %17.4f  %10.2f  %9s%s%s\n", first.c_str(), evaluation.loss, std::exp(evaluation.loss),
              bits_text(evaluation).c_str(), name.empty() ? "" : "  ", name.c_str());
}

void print_header(const std::string& first, bool is_blend) {
  std::printf("%s  loss (nats/token)  perplexity  bits/byte%s\n", first.c_str(), is_blend ? "  data" : "");
}

// The blend, and below it each part; or the only data set.
void print_rows(const std::string& first, const EvaluatedData& data, const std::vector<Evaluation>& parts) {
  print_row(first, data.whole(parts), data.is_blend() ? "blend" : "");
  const std::string indent(first.size(), ' ');
  for (size_t i = 0; data.is_blend() && i < parts.size(); ++i) print_row(indent, parts[i], data.names()[i]);
  std::fflush(stdout);
}

}  // namespace

ExitCode eval_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "eval";
  command.purpose = "loss and perplexity of a checkpoint at each k, or at a given allocation";
  command.example = "mmoe eval --checkpoint run/checkpoints/step_1000 --data run/tokens --split valid --k 1,2,6";
  command.options.add_options()("checkpoint", po::value<std::string>()->required(), "checkpoint folder")(
      "data", po::value<std::vector<std::string>>()->required()->composing()->value_name("[WEIGHT:]PREFIX"),
      "prefix of token files. Several, as in --data 0.7:web --data 0.3:books, are evaluated each and as the blend that "
      "has these shares of its tokens; without weights each counts as many tokens as it has")(
      "split", po::value<std::string>()->default_value("valid"), "train, valid, search or test")(
      "seq-len", po::value<int64_t>(), "length of the windows (default: as trained)")(
      "k", po::value<std::string>(), "numbers of active experts, e.g. 1,2,6 (default: k_min to k_max)")(
      "allocation", po::value<std::string>(), "allocation.json: one k for each MoE layer")(
      "logits", po::value<std::string>(),
      "write the (first) data set's first window's tokens and fp32 logits, by k, to this safetensors file")(
      "max-sequences", po::value<int64_t>()->default_value(0), "evaluate each data set's first windows only (0: all)");
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  if (flags.has("k") && flags.has("allocation")) throw ConfigError("mmoe eval: give --k or --allocation, not both");

  const DataBlend blend(parse_data_flag(flags.get<std::vector<std::string>>("data")));
  const Split split = parse_split(flags.get("split"), "--split");
  const auto seq_len = flags.has("seq-len") ? flags.get<int64_t>("seq-len") : 0;
  if (flags.has("seq-len")) check_seq_len(seq_len, blend, split);
  const auto max_windows = flags.get<int64_t>("max-sequences");
  if (max_windows < 0) {
    throw ConfigError("--max-sequences " + std::to_string(max_windows) + " is below 0; give 1 or more, or 0 for all");
  }
  InferenceModel checkpoint(flags.get("checkpoint"), seq_len);
  check_vocabulary(checkpoint.job(), blend.dataset(0), blend.prefixes().front().prefix);
  const EvaluatedData data(blend, split, checkpoint.job());

  std::optional<LogitsFile> logits;
  if (flags.has("logits")) logits.emplace(checkpoint.transformer(), data.first());
  nlohmann::ordered_json result;
  result["split"] = flags.get("split");
  // `data`, an entry a part with name, share and tokens.
  const auto describe_parts = [&](const std::vector<Evaluation>& parts) {
    for (size_t i = 0; data.is_blend() && i < parts.size(); ++i) {
      result["data"][i]["prefix"] = data.names()[i];
      result["data"][i]["share"] = data.shares(parts)[i];
      result["data"][i]["tokens"] = parts[i].tokens;
    }
  };
  if (flags.has("allocation")) {
    const std::vector<int> k = read_allocation(flags.get("allocation"), checkpoint.job());
    const std::vector<Evaluation> parts = data.parts(checkpoint, k, max_windows);
    const Evaluation evaluation = data.whole(parts);
    if (logits) logits->add("logits", k);
    const auto add = [](nlohmann::ordered_json& json, const Evaluation& of) {
      json["loss"] = of.loss;
      json["perplexity"] = std::exp(of.loss);
      json["bits_per_byte"] = of.bits_per_byte;
    };
    result["k_per_layer"] = k;
    add(result, evaluation);
    result["tokens"] = evaluation.tokens;
    describe_parts(parts);
    for (size_t i = 0; data.is_blend() && i < parts.size(); ++i) add(result["data"][i], parts[i]);
    if (!flags.json() && data.is_blend()) {
      print_header("", true);
      print_rows("", data, parts);
    } else if (!flags.json()) {
      std::printf("loss %.4f nats/token, perplexity %.2f, %s bits/byte over %ld tokens\n", evaluation.loss,
                  std::exp(evaluation.loss), bits_text(evaluation).c_str(), static_cast<long>(evaluation.tokens));
    }
  } else {
    const std::vector<int> ks = evaluated_ks(flags, checkpoint.job());
    if (!flags.json()) print_header("   k", data.is_blend());
    for (const int k : ks) {
      const std::vector<int> k_per_layer(checkpoint.job().model.num_moe_layers(), k);
      const std::vector<Evaluation> parts = data.parts(checkpoint, k_per_layer, max_windows);
      const Evaluation evaluation = data.whole(parts);
      const std::string name = std::to_string(k);
      if (logits) logits->add("logits_k" + name, k_per_layer);
      const auto add = [&](nlohmann::ordered_json& json, const Evaluation& of) {
        json["loss_by_k"][name] = of.loss;
        json["bits_per_byte_by_k"][name] = of.bits_per_byte;
      };
      add(result, evaluation);
      result["tokens"] = evaluation.tokens;
      result["bits_per_byte"] = evaluation.bits_per_byte;  // at the last, usually largest, k
      describe_parts(parts);
      for (size_t i = 0; data.is_blend() && i < parts.size(); ++i) add(result["data"][i], parts[i]);
      if (!flags.json()) {
        char first[16];
        std::snprintf(first, sizeof first, "%4d", k);
        print_rows(first, data, parts);
      }
    }
  }
  if (logits) logits->write(flags.get("logits"));
  if (flags.json()) std::cout << result.dump(2) << '\n';
  return ExitCode::kDone;
}

}  // namespace mmoe
