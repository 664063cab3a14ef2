#include <chrono>
#include <cstdio>

#include "train/cli/commands.h"
#include "train/cli/k_flags.h"
#include "train/cli/threads.h"
#include "train/data/dataset.h"
#include "train/loop/inference_model.h"
#include "train/loop/job_requirements.h"

namespace mmoe {
namespace {

SamplingOptions sampling_flags(const Flags& flags) {
  SamplingOptions options;
  options.temperature = flags.get<double>("temperature");
  options.top_k = flags.get<int64_t>("top-k");
  options.top_p = flags.get<double>("top-p");
  options.seed = flags.get<uint64_t>("seed");
  if (!(options.temperature >= 0 && options.temperature <= 100)) {
    throw ConfigError("--temperature must lie between 0 (the most likely token) and 100");
  }
  if (options.top_k < 0) throw ConfigError("--top-k must be 0 (all tokens) or more");
  if (!(options.top_p > 0 && options.top_p <= 1)) throw ConfigError("--top-p must lie above 0 and up to 1");
  return options;
}

}  // namespace

ExitCode generate_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "generate";
  command.purpose = "text from a checkpoint, at a chosen k or allocation";
  command.example =
      "mmoe generate --checkpoint run/checkpoints/step_1000 --data run/data/tokens --prompt \"In the beginning\" --k 2";
  command.options.add_options()("checkpoint", po::value<std::string>()->required(), "checkpoint folder")(
      "data", po::value<std::string>()->required(), "prefix of token files: their tokenizer is used")(
      "prompt", po::value<std::string>()->required(), "text to go on from")(
      "k", po::value<std::string>(), "active experts of every layer (default: k_max)")(
      "allocation", po::value<std::string>(), "allocation.json: one k for each MoE layer")(
      "max-tokens", po::value<int64_t>()->default_value(200), "tokens to make")(
      "temperature", po::value<double>()->default_value(0.8), "0: always the most likely token")(
      "top-k", po::value<int64_t>()->default_value(0), "draw from the most likely tokens only, so many (0: all)")(
      "top-p", po::value<double>()->default_value(1), "draw from the fewest tokens whose probabilities reach this sum")(
      "seed", po::value<uint64_t>()->default_value(0), "of the draws");
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  GenerationOptions options;
  options.sampling = sampling_flags(flags);
  options.max_tokens = flags.get<int64_t>("max-tokens");
  if (options.max_tokens < 1 || options.max_tokens > (1 << 20)) {
    throw ConfigError("--max-tokens must lie between 1 and 1048576");
  }
  const Dataset data(flags.get("data"));
  options.vocab_size = data.info().vocab_size;
  const std::vector<int32_t> prompt = data.tokenizer().encode(flags.get("prompt"));
  if (prompt.empty()) throw ConfigError("--prompt is empty; give at least one character");
  InferenceModel model(flags.get("checkpoint"));
  check_vocabulary(model.job(), data, flags.get("data"));
  const std::vector<int> k = chosen_k(flags, model.job());

  const auto start = std::chrono::steady_clock::now();
  std::string text;
  if (!flags.json()) std::fputs(flags.get("prompt").c_str(), stdout);
  const std::vector<int32_t> made = model.generate(prompt, k, options, [&](int32_t token) {
    const std::string_view piece = data.tokenizer().token_text(token);
    text += piece;
    if (flags.json()) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (flags.json()) {
    const nlohmann::ordered_json result = {{"prompt", flags.get("prompt")},
                                           {"text", text},
                                           {"tokens", made},
                                           {"k_per_layer", k},
                                           {"seconds", seconds},
                                           {"tokens_per_second", static_cast<double>(made.size()) / seconds}};
    std::cout << result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::putchar('\n');
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
