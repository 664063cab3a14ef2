#include "train/data/dataset.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/build.h"

namespace mmoe {
namespace {

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    BuildOptions options;
    options.text_files = {folder_.write("text.txt", sample_text(200, 4))};
    options.tokenizer = "sentencepiece";
    options.vocab_size = 330;
    options.prefix = prefix_ = folder_.file("data");
    built_ = build_dataset(options);
  }
  void expect_refused(const std::string& names) {
    const std::string message = message_of<ConfigError>([&] { Dataset dataset(prefix_); });
    EXPECT_NE(message.find(names), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  void edit_json(const std::string& key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(folder_.read("data.json"));
    json[nlohmann::json::json_pointer(key)] = value;
    folder_.write("data.json", json.dump());
  }
  TemporaryFolder folder_;
  std::string prefix_;
  DatasetInfo built_;
};

TEST_F(DatasetTest, InfoIsReadBack) {
  const Dataset dataset(prefix_);
  EXPECT_EQ(to_json(dataset.info()), to_json(built_));
  EXPECT_EQ(dataset.info().model, "data.model");
  EXPECT_EQ(dataset.tokenizer().vocab_size(), 330);
  EXPECT_EQ(dataset.tokens(Split::kTrain).num_tokens(), built_.split(Split::kTrain).tokens);
}

TEST_F(DatasetTest, NamesTheMissingFile) {
  for (const char* name : {"data.json", "data.model", "data.valid.bin", "data.test.idx"}) {
    const std::string bytes = folder_.read(name);
    std::filesystem::remove(folder_.file(name));
    expect_refused(folder_.file(name));
    folder_.write(name, bytes);
  }
  EXPECT_NO_THROW(Dataset{prefix_});
}

TEST_F(DatasetTest, RefusesFilesOfAnotherBuild) {
  folder_.write("data.model", folder_.read("data.model") + "x");
  expect_refused(folder_.file("data.model"));
  SetUp();
  for (const char* extension : {".bin", ".idx"}) {
    folder_.write(std::string("data.valid") + extension, folder_.read(std::string("data.train") + extension));
  }
  expect_refused(folder_.file("data.valid.bin"));
}

TEST_F(DatasetTest, RefusesADamagedDescription) {
  for (const char* text : {"", "{", "[]", "{}", "null", "{\"format_version\": 1}"}) {
    folder_.write("data.json", text);
    expect_refused(folder_.file("data.json"));
  }
  const std::pair<const char*, nlohmann::json> edits[] = {
      {"/format_version", 2},     {"/vocab_size", 0},           {"/vocab_size", -5}, {"/vocab_size", 1LL << 40},
      {"/vocab_size", "many"},    {"/tokenizer", "words"},      {"/tokenizer", 3},   {"/model", "../data.model"},
      {"/splits/train", nullptr}, {"/splits/test/tokens", "x"}, {"/text_files", 1}};
  for (const auto& [key, value] : edits) {
    SetUp();
    edit_json(key, value);
    SCOPED_TRACE(key + value.dump());
    expect_refused(folder_.file("data.json"));
  }
  SetUp();
  edit_json("/vocab_size", 331);
  expect_refused("331");
  SetUp();
  edit_json("/splits/search/documents", 99999);
  expect_refused("99999");
}

}  // namespace
}  // namespace mmoe
