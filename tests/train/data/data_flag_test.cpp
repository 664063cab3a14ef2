#include "train/data/data_flag.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/build.h"

namespace mmoe {
namespace {

TEST(DataFlag, ReadsPrefixesAndWeights) {
  const auto alone = parse_data_flag({"data/book"});
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0].prefix, "data/book");
  EXPECT_EQ(alone[0].weight, 0);
  const auto blend = parse_data_flag({"0.7:data/web", "3e-1:b:c"});
  ASSERT_EQ(blend.size(), 2u);
  EXPECT_EQ(blend[0].prefix, "data/web");
  EXPECT_EQ(blend[0].weight, 0.7);
  EXPECT_EQ(blend[1].prefix, "b:c");
  EXPECT_EQ(blend[1].weight, 0.3);
  EXPECT_EQ(parse_data_flag({"a:b"})[0].prefix, "a:b");  // no number before the colon: a name
}

TEST(DataFlag, RefusesWhatIsUnclear) {
  for (const std::vector<std::string>& values : std::vector<std::vector<std::string>>{{""},
                                                                                      {"0.5:"},
                                                                                      {"0:a", "1:b"},
                                                                                      {"-1:a"},
                                                                                      {"nan:a"},
                                                                                      {"inf:a"},
                                                                                      {"0.5:a", "b"},
                                                                                      {"a", "0.5:b"},
                                                                                      {"0.5:a", "0.5:a"},
                                                                                      {"a", "a"}}) {
    EXPECT_THROW(parse_data_flag(values), ConfigError) << values[0];
  }
}

TEST(DataBlend, AllShareATokenizer) {
  const TemporaryFolder folder;
  BuildOptions options;
  options.num_threads = 1;
  options.text_files = {folder.write("text.txt", sample_text(300, 2))};
  for (const char* name : {"a", "b"}) {
    options.prefix = folder.file(name);
    build_dataset(options);
  }
  options.prefix = folder.file("c");
  options.tokenizer = "sentencepiece";
  options.vocab_size = 320;
  build_dataset(options);
  const DataBlend blend(parse_data_flag({"1:" + folder.file("a"), "3:" + folder.file("b")}));
  const std::vector<DataSource> sources = blend.sources(Split::kTrain);
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_EQ(sources[1].weight, 3);
  EXPECT_EQ(sources[1].tokens, &blend.dataset(1).tokens(Split::kTrain));
  EXPECT_THROW(DataBlend(parse_data_flag({folder.file("a"), folder.file("c")})), ConfigError);
  EXPECT_THROW(DataBlend(parse_data_flag({folder.file("a"), folder.file("none")})), ConfigError);
}

}  // namespace
}  // namespace mmoe
