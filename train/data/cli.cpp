#include "train/data/cli.h"

#include <unistd.h>

#include <boost/program_options.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "sim/units/errors.h"
#include "train/data/build.h"
#include "train/data/documents.h"
#include "train/data/import_tokens.h"
#include "train/data/inspect.h"

namespace mmoe {
namespace {

namespace po = boost::program_options;

struct CommandSyntax {
  std::string name;  // as the user types it
  std::string example;
  po::options_description options;
  po::positional_options_description positional = {};
};

// The flags that were given; none when --help was asked for and printed. --config FILE adds flags kept in a file.
std::optional<po::variables_map> parse_flags(CommandSyntax& syntax, const std::vector<std::string>& arguments) {
  syntax.options.add_options()("config", po::value<std::string>(),
                               "file with further flags, one `name = value` a line")(
      "json", po::bool_switch(), "print the full result as JSON")("help", po::bool_switch(), "print this help");
  const auto style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
  po::variables_map flags;
  try {
    po::store(
        po::command_line_parser(arguments).options(syntax.options).positional(syntax.positional).style(style).run(),
        flags);
    if (flags["help"].as<bool>()) {
      std::cout << syntax.options << "\nExample:\n  " << syntax.example << '\n';
      return std::nullopt;
    }
    if (flags.count("config") > 0) {
      const std::string path = flags["config"].as<std::string>();
      std::ifstream file(path);
      if (!file) throw ConfigError("--config " + path + ": cannot read; check the path and its permissions");
      po::store(po::parse_config_file(file, syntax.options), flags);
    }
    po::notify(flags);
  } catch (const po::error& error) {
    throw ConfigError(syntax.name + ": " + error.what() + "; see `" + syntax.name + " --help`");
  }
  return flags;
}

// One line that rewrites itself on a terminal; elsewhere a line at the start and then one each ten seconds.
class ProgressLine {
 public:
  void operator()(const std::string& doing, double fraction) {
    using std::chrono::steady_clock;
    const auto now = steady_clock::now();
    const bool first = doing != doing_;
    if (first) begin_ = now, doing_ = doing;
    if (!first && !terminal_ && now - printed_ < std::chrono::seconds(10)) return;
    printed_ = now;
    std::cerr << (terminal_ ? "\r\033[K" : "") << doing;
    if (fraction > 0) {
      const double seconds = std::chrono::duration<double>(now - begin_).count();
      std::cerr << ": " << static_cast<int>(100 * fraction) << " %";
      if (!first && fraction < 1)
        std::cerr << ", " << static_cast<int>(seconds * (1 - fraction) / fraction) + 1 << " s left";
    }
    std::cerr << (terminal_ ? "" : "\n") << std::flush;
  }
  ~ProgressLine() {
    if (terminal_ && !doing_.empty()) std::cerr << "\r\033[K" << std::flush;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::string doing_;
  std::chrono::steady_clock::time_point begin_, printed_;
};

void require_flags(const po::variables_map& flags, const std::string& name,
                   std::initializer_list<const char*> required) {
  for (const char* flag : required) {
    if (flags.count(flag) > 0) continue;
    throw ConfigError(name + ": --" + flag + " is missing; see `" + name + " --help`");
  }
}

void print_result(const DatasetInfo& info, const std::string& prefix, const po::variables_map& flags) {
  if (!flags.at("json").as<bool>()) return print_dataset_info(info, prefix, std::cout);
  nlohmann::ordered_json json = to_json(info);
  json["prefix"] = prefix;
  std::cout << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

int build_command(const std::vector<std::string>& arguments) {
  CommandSyntax syntax{
      .name = "mmoe data build",
      .example = "mmoe data build --text book.txt --tokenizer sentencepiece --vocab-size 2048 --out data/book",
      .options = po::options_description(
          "mmoe data build: turns text into token files (Megatron's indexed format) with splits\n"
          "train, valid, search, test that share no document",
          110)};
  BuildOptions options;
  std::string split = "0.9,0.04,0.03,0.03", separator = "\\n\\n";
  int64_t seed = 0;
  // clang-format off
  syntax.options.add_options()
      ("text", po::value(&options.text_files)->multitoken()->composing()->value_name("FILE..."), "text files, any encoding; a file's end ends a document. Of JSON Lines (.jsonl, .ndjson) each line is one, of Parquet (.parquet) each row")
      ("out", po::value(&options.prefix)->value_name("PREFIX"), "writes PREFIX.json, PREFIX.train.bin, PREFIX.train.idx, and so on")
      ("tokenizer", po::value(&options.tokenizer)->default_value("bytes"), "bytes, or sentencepiece (learned from the train split)")
      ("vocab-size", po::value(&options.vocab_size)->value_name("N"), "pieces that SentencePiece learns, 256 byte pieces included")
      ("tokenizer-model", po::value(&options.tokenizer_model)->value_name("FILE"), "encode with this SentencePiece model, learn none")
      ("split", po::value(&split)->default_value(split), "fractions of the documents for train,valid,search,test")
      ("separator", po::value(&separator)->default_value(separator), "what ends a document; \\n \\r \\t \\0 \\\\ \\xHH are understood")
      ("json-key", po::value(&options.json_key)->default_value(options.json_key), "key of JSON Lines, or column of Parquet, under which the text lies")
      ("seed", po::value(&seed)->default_value(seed), "shuffles documents into splits and samples text to learn from")
      ("sample-bytes", po::value(&options.sample_bytes)->default_value(options.sample_bytes), "SentencePiece learns from at most so much text")
      ("threads", po::value(&options.num_threads)->default_value(0), "threads that encode; 0: one a core");
  // clang-format on
  const auto flags = parse_flags(syntax, arguments);
  if (!flags) return 0;
  require_flags(*flags, syntax.name, {"text", "out"});
  if (flags->count("vocab-size") > 0 && options.vocab_size < 1) {
    throw ConfigError("--vocab-size " + std::to_string(options.vocab_size) + ": must be positive");
  }
  if (seed < 0) throw ConfigError("--seed " + std::to_string(seed) + ": must not be negative");
  if (options.num_threads < 0 || options.num_threads > 1024) {
    throw ConfigError("--threads " + std::to_string(options.num_threads) + ": must be between 0 (one a core) and 1024");
  }
  options.split_fractions = parse_split_fractions(split);
  options.separator = parse_separator(separator);
  options.seed = static_cast<uint64_t>(seed);
  const DatasetInfo info = [&] {
    ProgressLine progress;
    options.progress = [&](const std::string& doing, double fraction) { progress(doing, fraction); };
    return build_dataset(options);
  }();
  print_result(info, options.prefix, *flags);
  return 0;
}

int import_command(const std::vector<std::string>& arguments) {
  CommandSyntax syntax{
      .name = "mmoe data import",
      .example = "mmoe data import --tokens corpus.bin --format megatron --vocab-size 50304 --out data/corpus",
      .options = po::options_description("mmoe data import: token files of other software, split by document", 110)};
  ImportTokensOptions options;
  std::string split = "0.9,0.04,0.03,0.03", format = "megatron";
  int64_t seed = 0;
  // clang-format off
  syntax.options.add_options()
      ("tokens", po::value(&options.token_files)->multitoken()->composing()->value_name("FILE..."), "token files; of Megatron's pairs one name each")
      ("format", po::value(&format)->default_value(format), "megatron (.bin and .idx), uint16 or uint32 (bare ids, nanoGPT), llmc")
      ("vocab-size", po::value(&options.vocab_size)->value_name("N"), "number of ids of the tokenizer that made them")
      ("document-end", po::value(&options.document_end)->value_name("ID"), "the id that ends a document, where the format does not say")
      ("tokenizer-model", po::value(&options.tokenizer_model)->value_name("FILE"), "the SentencePiece model that made them, if one did")
      ("out", po::value(&options.prefix)->value_name("PREFIX"), "writes PREFIX.json, PREFIX.train.bin, PREFIX.train.idx, and so on")
      ("split", po::value(&split)->default_value(split), "fractions of the documents for train,valid,search,test")
      ("seed", po::value(&seed)->default_value(seed), "shuffles documents into splits");
  // clang-format on
  const auto flags = parse_flags(syntax, arguments);
  if (!flags) return 0;
  require_flags(*flags, syntax.name, {"tokens", "out"});
  if (seed < 0) throw ConfigError("--seed " + std::to_string(seed) + ": must not be negative");
  options.format = parse_foreign_format(format);
  options.split_fractions = parse_split_fractions(split);
  options.seed = static_cast<uint64_t>(seed);
  print_result(import_tokens(options), options.prefix, *flags);
  return 0;
}

int inspect_command(const std::vector<std::string>& arguments) {
  CommandSyntax syntax{.name = "mmoe data inspect",
                       .example = "mmoe data inspect data/book",
                       .options = po::options_description(
                           "mmoe data inspect: reads token files, checks them, and says what they hold", 110)};
  std::string prefix;
  int64_t num_first_tokens = 32;
  // clang-format off
  syntax.options.add_options()
      ("data", po::value(&prefix)->value_name("PREFIX"), "what --out named when the files were built; the flag's name may be left out")
      ("tokens", po::value(&num_first_tokens)->default_value(num_first_tokens), "how many tokens of each split to show");
  // clang-format on
  syntax.positional.add("data", 1);
  const auto flags = parse_flags(syntax, arguments);
  if (!flags) return 0;
  if (prefix.empty())
    throw ConfigError("mmoe data inspect: names no data; give the PREFIX, as in `mmoe data inspect data/book`");
  if (num_first_tokens < 0)
    throw ConfigError("--tokens " + std::to_string(num_first_tokens) + ": must not be negative");
  const Inspection inspection = inspect_dataset(prefix, num_first_tokens);
  if (flags->at("json").as<bool>()) {
    std::cout << to_json(inspection).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    print(inspection, std::cout);
  }
  return 0;
}

constexpr const char* kHelp =
    "mmoe data: text to token files, and a look into them\n"
    "  build    writes token files, split into train, valid, search and test\n"
    "  import   token files of Megatron, nanoGPT and llm.c, split likewise\n"
    "  inspect  counts, vocabulary, first tokens and unigram entropy of token files\n"
    "\nExample:\n"
    "  mmoe data build --text book.txt --tokenizer sentencepiece --vocab-size 2048 --out data/book\n"
    "  mmoe data inspect data/book\n"
    "Each has its own --help.\n";

}  // namespace

int data_command(const std::vector<std::string>& arguments) {
  const std::string name = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (name == "build") return build_command(rest);
  if (name == "import") return import_command(rest);
  if (name == "inspect") return inspect_command(rest);
  if (name == "--help") {
    std::cout << kHelp;
    return 0;
  }
  if (name.empty()) throw ConfigError("mmoe data: needs build, import or inspect; see `mmoe data --help`");
  throw ConfigError("mmoe data " + name + ": there is no such command; use build, import or inspect");
}

}  // namespace mmoe
