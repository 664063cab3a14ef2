#include "train/data/cli.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

using Words = std::vector<std::string>;

class DataCommand : public testing::Test {
 protected:
  // What the command prints on standard output.
  std::string run(const Words& words) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int status = -1;
    std::string error;
    try {
      status = data_command(words);
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    std::string out = testing::internal::GetCapturedStdout();
    testing::internal::GetCapturedStderr();
    EXPECT_EQ(status, 0) << error;
    return out;
  }
  std::string refusal(const Words& words) {
    testing::internal::CaptureStdout();
    std::string message = message_of<ConfigError>([&] { data_command(words); });
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  TemporaryFolder folder_;
  std::string text_ = folder_.write("text.txt", sample_text(200, 4)), prefix_ = folder_.file("data");
};

TEST_F(DataCommand, BuildsAndInspects) {
  const auto built = nlohmann::json::parse(run(
      {"build", "--text", text_, "--tokenizer", "sentencepiece", "--vocab-size", "330", "--out", prefix_, "--json"}));
  EXPECT_EQ(built["vocab_size"], 330);
  EXPECT_EQ(built["splits"]["train"]["documents"], 45);  // 0.9 of 50
  const auto inspected = nlohmann::json::parse(run({"inspect", prefix_, "--json"}));
  EXPECT_EQ(inspected["text_hash"], built["text_hash"]);
  EXPECT_EQ(inspected["splits"]["test"]["tokens"], built["splits"]["test"]["tokens"]);
  EXPECT_EQ(inspected["splits"]["test"]["first_tokens"].size(), 32u);
  EXPECT_NE(run({"inspect", prefix_}).find("search"), std::string::npos);
}

TEST_F(DataCommand, TakesSeveralFilesSplitSeparatorAndSeed) {
  const std::string other = folder_.write("other.txt", "a|b|c|d|");
  const auto built = nlohmann::json::parse(run({"build", "--text", other, text_, "--out", prefix_, "--separator", "|",
                                                "--split", "0.5,0.5,0,0", "--seed", "9", "--json"}));
  EXPECT_EQ(built["splits"]["train"]["documents"].get<int>() + built["splits"]["valid"]["documents"].get<int>(), 5);
  EXPECT_EQ(built["splits"]["test"]["documents"], 0);
  EXPECT_EQ(built["seed"], 9);
}

TEST_F(DataCommand, ReadsFlagsFromAFile) {
  const std::string config = folder_.write("flags.cfg", "out = " + prefix_ + "\nseed = 4\n");
  const auto built =
      nlohmann::json::parse(run({"build", "--text", text_, "--config", config, "--seed", "5", "--json"}));
  EXPECT_EQ(built["seed"], 5);  // the command line comes first
}

TEST_F(DataCommand, HelpShowsAnExample) {
  for (const Words& words : {Words{"--help"}, Words{"build", "--help"}, Words{"inspect", "--help"}}) {
    EXPECT_NE(run(words).find("Example:\n  mmoe data "), std::string::npos);
  }
}

TEST_F(DataCommand, RefusesBadCommandLines) {
  const std::pair<Words, const char*> cases[] = {
      {{}, "build, import or inspect"},
      {{"import", "--out", prefix_}, "--tokens"},
      {{"import", "--tokens", text_, "--out", prefix_, "--format", "gpt"}, "--format gpt"},
      {{"import", "--tokens", text_, "--out", prefix_, "--format", "uint16"}, "--vocab-size"},
      {{"bild"}, "bild"},
      {{"build"}, "--text"},
      {{"build", "--text", text_}, "--out"},
      {{"build", "--tex", text_, "--out", prefix_}, "--tex"},  // no guessing from a prefix
      {{"build", "--out", prefix_, "--bogus", "1"}, "--bogus"},
      {{"build", "--out", prefix_, "--seed", "one", "--text", text_}, "--seed"},
      {{"build", "--out", prefix_, "--seed", "-1", "--text", text_}, "--seed -1"},
      {{"build", "--out", prefix_, "--threads", "-1", "--text", text_}, "--threads -1"},
      {{"build", "--out", prefix_, "--vocab-size", "0", "--text", text_}, "--vocab-size 0"},
      {{"build", "--out", prefix_, "--split", "0.9", "--text", text_}, "--split 0.9"},
      {{"build", "--out", prefix_, "--separator", "", "--text", text_}, "--separator"},
      {{"build", "stray", "--out", prefix_, "--text", text_}, "positional"},
      {{"build", "--text", text_, "--out", prefix_, "--config", folder_.file("no.cfg")}, "no.cfg"},
      {{"inspect"}, "PREFIX"},
      {{"inspect", prefix_, "stray"}, "positional"},
      {{"inspect", folder_.file("nothing")}, "nothing.json"},
      {{"inspect", prefix_, "--tokens", "-1"}, "--tokens -1"},
  };
  for (const auto& [words, names] : cases) {
    const std::string message = refusal(words);
    EXPECT_NE(message.find(names), std::string::npos) << message;
  }
  EXPECT_EQ(folder_.names(), std::set<std::string>{"text.txt"});
}

}  // namespace
}  // namespace mmoe
