#include "train/data/sentencepiece_tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <fstream>
#include <random>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/plain_text.h"

namespace mmoe {
namespace {

constexpr int kVocabSize = 360;

const std::string& trained_model() {
  static const std::string model = [] {
    const std::string text = sample_text(400, 5) + "caf\xC3\xA9\t  two  spaces\n    indented\n";
    return train_sentencepiece({text}, kVocabSize);
  }();
  return model;
}

std::unique_ptr<Tokenizer> tokenizer() { return load_sentencepiece(trained_model(), "test.model"); }

void expect_exact(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> tokens = tokenizer.encode(text);
  ASSERT_EQ(tokenizer.decode(tokens), text);
  ASSERT_EQ(tokenizer.text_size(tokens), static_cast<int64_t>(text.size()));
  for (const int32_t token : tokens) ASSERT_TRUE(token >= 0 && token < tokenizer.vocab_size());
}

TEST(SentencePieceTokenizer, LearnsPiecesOfTheText) {
  const auto sentencepiece = tokenizer();
  EXPECT_EQ(sentencepiece->kind(), "sentencepiece");
  EXPECT_EQ(sentencepiece->vocab_size(), kVocabSize);
  const std::string text = sample_text(50, 5);
  EXPECT_LT(sentencepiece->encode(text).size() * 2, text.size());
}

TEST(SentencePieceTokenizer, GivesBackTheTextThatSentencePieceAloneWouldChange) {
  const auto sentencepiece = tokenizer();
  const std::string_view cases[] = {"",
                                    " ",
                                    "  leading and trailing  ",
                                    "two  spaces   three",
                                    "\ttab\t\ttabs",
                                    "\n",
                                    "line\nfeeds\n\n\nmany\r\n",
                                    "\xE2\x96\x81 itself\xE2\x96\x81",  // U+2581, SentencePiece's own space
                                    "\xE2\x96\x85 unknown symbol",      // U+2585, its own unknown
                                    "<unk> <s> </s> <0x41> <pad>",
                                    "\xEF\xBC\xA1 full width, \xEF\xAC\x81 ligature, e\xCC\x81 combining",
                                    "\xEF\xBB\xBF byte order mark \xEF\xBF\xBD replacement",
                                    "\xF0\x9F\x98\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
                                    "\xFF\xFE invalid \xC3",
                                    "surrogate \xED\xA0\x80",
                                    "\xE2\x82",
                                    std::string_view("nul \0 and \0\0", 12)};
  for (const std::string_view text : cases) expect_exact(*sentencepiece, text);
  expect_exact(*sentencepiece, std::string(100000, ' '));
  expect_exact(*sentencepiece, std::string(10000, 'e'));
  expect_exact(*sentencepiece, std::string(10000, '\0'));
}

TEST(SentencePieceTokenizer, GivesBackRandomBytesAndMixtures) {
  const auto sentencepiece = tokenizer();
  std::mt19937_64 random(7);
  const std::string_view fragments[] = {"the",
                                        " expert",
                                        "\n",
                                        " ",
                                        "  ",
                                        "\t",
                                        "\xE2\x96\x81",
                                        "\xC3\xA9",
                                        "\xE2\x82\xAC",
                                        "\xF0\x9F\x98\x80",
                                        "\xE2\x96",
                                        "\xFF",
                                        "\x80",
                                        "<0x0A>",
                                        "0123",
                                        "\xEF\xBF\xBD",
                                        "."};
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes, mixture;
    for (uint64_t i = random() % 200; i > 0; --i) bytes += static_cast<char>(random());
    for (uint64_t i = random() % 100; i > 0; --i) {
      const uint64_t pick = random() % (std::size(fragments) + 1);
      mixture += pick < std::size(fragments) ? fragments[pick] : std::string_view("\0", 1);
    }
    expect_exact(*sentencepiece, bytes);
    expect_exact(*sentencepiece, mixture);
  }
}

TEST(SentencePieceTokenizer, TrainingIsDeterministic) {
  const std::string text = sample_text(400, 5) + "caf\xC3\xA9\t  two  spaces\n    indented\n";
  EXPECT_TRUE(train_sentencepiece({text}, kVocabSize) == trained_model());
}

TEST(SentencePieceTokenizer, TrainsOnTextOfAnyBytes) {
  std::mt19937_64 random(3);
  std::string text = sample_text(200, 5);
  for (int i = 0; i < 2000; ++i) text.insert(random() % text.size(), 1, static_cast<char>(random()));
  const auto sentencepiece = load_sentencepiece(train_sentencepiece({text}, 460), "noise.model");
  expect_exact(*sentencepiece, text);
}

TEST(SentencePieceTokenizer, RefusesVocabulariesThatTheTextCannotFill) {
  const std::string large = message_of<ConfigError>([] { train_sentencepiece({"so few words"}, 5000); });
  EXPECT_NE(large.find("--vocab-size 5000"), std::string::npos) << large;
  EXPECT_EQ(large.find('\n'), std::string::npos) << large;
  const std::string small = message_of<ConfigError>([] { train_sentencepiece({"so few words"}, 256); });
  EXPECT_NE(small.find("--vocab-size 256"), std::string::npos) << small;
  EXPECT_THROW(train_sentencepiece({}, 500), ConfigError);
  EXPECT_THROW(train_sentencepiece({"\xFF\xFF"}, 500), ConfigError);
}

TEST(SentencePieceTokenizer, RefusesModelsThatAreNone) {
  const std::string& model = trained_model();
  for (const std::string& damaged : {std::string(), std::string("not a model"), model.substr(0, model.size() / 2),
                                     std::string(1000, '\0'), model.substr(100)}) {
    const std::string message = message_of<ConfigError>([&] { load_sentencepiece(damaged, "bad.model"); });
    EXPECT_EQ(message.find("bad.model"), 0u) << message;
  }
}

TEST(SentencePieceTokenizer, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THROW(tokenizer()->token_text(kVocabSize), ConfigError);
  EXPECT_THROW(tokenizer()->token_text(-1), ConfigError);
}

// Words are encoded one by one and remembered: the ids are still those of SentencePiece itself, for the whole line.
TEST(SentencePieceTokenizer, EncodesAsTheLibraryDoes) {
  const std::string text = sample_text(300, 7) + "caf\xC3\xA9  two   spaces \xE6\x97\xA5\xE6\x9C\xAC a\tb , c,d  ";
  for (const char* type : {"bpe", "unigram"}) {
    const std::string file = testing::TempDir() + "mmoe_sentencepiece_text.txt";
    std::ofstream(file) << text << '\n';
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train({{"input", file},
                                                                    {"model_type", type},
                                                                    {"vocab_size", "360"},
                                                                    {"byte_fallback", "true"},
                                                                    {"normalization_rule_name", "identity"},
                                                                    {"add_dummy_prefix", "false"},
                                                                    {"remove_extra_whitespaces", "false"},
                                                                    {"hard_vocab_limit", "false"},
                                                                    {"minloglevel", "3"}},
                                                                   nullptr, &model);
    ASSERT_TRUE(status.ok()) << status.message();
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    const auto ours = load_sentencepiece(model, type);
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view line = first_chunk(rest);
      rest.remove_prefix(line.size());
      std::vector<int> expected;
      ASSERT_TRUE(library.Encode(line, &expected).ok());
      EXPECT_EQ(ours->encode(line), std::vector<int32_t>(expected.begin(), expected.end())) << type << ": " << line;
    }
  }
}

}  // namespace
}  // namespace mmoe
