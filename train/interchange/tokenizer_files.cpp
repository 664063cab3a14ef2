#include "train/interchange/tokenizer_files.h"

namespace mmoe {

void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"}) {
    if (std::filesystem::is_regular_file(from / name)) std::filesystem::copy_file(from / name, to / name);
  }
}

}  // namespace mmoe
