#pragma once
// A tokenizer's files travel with a model, unread.

#include <filesystem>

namespace mmoe {

// Copies the files by which transformers knows a tokenizer and its chat template, as far as `from` has them.
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace mmoe
