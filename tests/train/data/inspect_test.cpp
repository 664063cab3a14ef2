#include "train/data/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/build.h"

namespace mmoe {
namespace {

TEST(InspectDataset, CountsFromTheFilesAgreeWithTheBuild) {
  const TemporaryFolder folder;
  BuildOptions options;
  options.text_files = {folder.write("text.txt", "abab\xFF\n\ncd\n\nef\n\ngh\n\n")};
  options.prefix = folder.file("data");
  const DatasetInfo built = build_dataset(options);
  const Inspection inspection = inspect_dataset(options.prefix, 3);
  EXPECT_DOUBLE_EQ(*inspection.info.unigram_entropy_bits_per_byte, *built.unigram_entropy_bits_per_byte);
  const nlohmann::ordered_json json = to_json(inspection);
  for (const Split split : kSplits) {
    const auto& counts = json["splits"][std::string(split_name(split))];
    EXPECT_EQ(counts["tokens"], built.split(split).tokens);
    EXPECT_EQ(counts["first_tokens"].size(), 3u);
    EXPECT_EQ(counts["documents"], 1);
  }
  EXPECT_NO_THROW(static_cast<void>(json.dump()));
  std::ostringstream out;
  print(inspection, out);
  EXPECT_NE(out.str().find("unigram entropy of train"), std::string::npos);
  EXPECT_EQ(out.str().find('\xFF'), std::string::npos);  // escaped
}

TEST(InspectDataset, RefusesTokensOfAnotherVocabulary) {
  const TemporaryFolder folder;
  BuildOptions options;
  options.text_files = {folder.write("text.txt", "ab\n\ncd\n\nef\n\ngh\n\n")};
  options.prefix = folder.file("data");
  build_dataset(options);
  std::string bin = folder.read("data.train.bin");
  bin[1] = 1;  // token 256 and more
  folder.write("data.train.bin", bin);
  const std::string message = message_of<ConfigError>([&] { inspect_dataset(options.prefix, 0); });
  EXPECT_EQ(message.find(folder.file("data.train.bin")), 0u) << message;
}

}  // namespace
}  // namespace mmoe
