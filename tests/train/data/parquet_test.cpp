#include "train/data/parquet.h"

#include <random>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

// Written by pyarrow 26 from the columns "id" (int32), "text" and "meta" (a struct with a string "text"), seven rows.
// Dictionary encoding, pages of version 1.
constexpr const char* kSnappyFile =
    "5041523115041538153c4c150e15001200001c6c0000000001000000020000000300000004000000050000000600000015001516151a2c15"
    "0e1510150615061c0000000b28020000000e01030388c61a1504159601156a4c150815001200004b7810000000496e207468652062656769"
    "6e6e696e670000000028000000776173051914776f72642c20660e001803000000c3a90a1500151415182c150e1510150615061c0000000a"
    "2402000000035b020384031504150c15104c150215001200000614020000006e6f1500151215162c150e1510150615061c00000009200200"
    "00000e02010e001504195c35001806736368656d61150600150225021802696400150c250218047465787425004c1c000000350218046d65"
    "7461150200150c250218047465787425004c1c000000160e191c193c26001c1502193500061019180269641502160e169001169801266026"
    "08292c15041500150200150015101502003c29061926000e00000026001c150c1935000610191804746578741502160e16ee0116c60126a8"
    "0226a001292c15041500150200150015101502003c16960119061926040a00000026001c150c19350006101928046d657461047465787415"
    "02160e1660166826920326e602292c15041500150200150015101502003c161c1906193600000e00000016de03160e260816c60300282070"
    "6172717565742d6370702d6172726f772076657273696f6e2032362e302e31193c1c00001c00001c0000003c01000050415231";

// Plain encoding, pages of version 2, uncompressed.
constexpr const char* kPlainFile =
    "504152311506153c153c5c150e1500150e150015041500121c0000000e010000000001000000020000000300000004000000050000000600"
    "0000150615c20115c2015c150e1504150e150015041500121c000000035b10000000496e2074686520626567696e6e696e67000000001000"
    "0000496e2074686520626567696e6e696e67280000007761732074686520776f72642c207761732074686520776f72642c20776173207468"
    "6520776f726403000000c3a90a1506155815585c150e1500150e150015041500121c0000000e02020000006e6f020000006e6f020000006e"
    "6f020000006e6f020000006e6f020000006e6f020000006e6f1504195c35001806736368656d61150600150225021802696400150c250218"
    "047465787425004c1c000000350218046d657461150200150c250218047465787425004c1c000000160e191c193c26001c15021925060019"
    "180269641500160e166c166c2608491c150015001502003c29061926000e00000026001c150c19250600191804746578741500160e16f601"
    "16f6012674491c150015001502003c16960119061926040a00000026001c150c192506001928046d65746104746578741500160e16880116"
    "880126ea02491c150015001502003c161c1906193600000e00000016ea03160e260816ea03002820706172717565742d6370702d6172726f"
    "772076657273696f6e2032362e302e31193c1c00001c00001c0000001b01000050415231";
std::string bytes_of(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

class Parquet : public testing::TestWithParam<const char*> {
 protected:
  const std::string bytes_ = bytes_of(GetParam());
};

TEST_P(Parquet, GivesTheTextOfEachRowButNullsAndEmptyOnes) {
  EXPECT_EQ(parquet_documents(bytes_, "text", "x"),
            (std::vector<std::string>{"In the beginning", "In the beginning",
                                      "was the word, was the word, was the word", "\xc3\xa9\n"}));
}

TEST_P(Parquet, NamesAColumnThatIsNotThereOrHoldsNoText) {
  const auto refusal = [&](const std::string& column) {
    return message_of<ConfigError>([&] { parquet_documents(bytes_, column, "file.parquet"); });
  };
  EXPECT_EQ(refusal("body"),
            "file.parquet: has no column \"body\" (but \"id\", \"text\", \"meta\"); name the one that holds the text "
            "with --json-key");
  for (const char* column : {"id", "meta"}) {
    EXPECT_NE(refusal(column).find(std::string("column \"") + column + "\" holds no text"), std::string::npos);
  }
}

TEST_P(Parquet, RefusesEveryCutFile) {
  for (size_t size = 0; size < bytes_.size(); ++size) {
    EXPECT_NE(message_of<ConfigError>([&] {
                parquet_documents(bytes_.substr(0, size), "text", "cut.parquet");
              }).find("cut.parquet: is no Parquet file"),
              std::string::npos)
        << size;
  }
}

// Whatever is changed in a file, it is read or refused in one line.
TEST_P(Parquet, SurvivesRandomMutations) {
  std::mt19937 draw(1);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string changed = bytes_;
    for (auto i = static_cast<int>(draw() % 3); i >= 0; --i) changed[draw() % changed.size()] = static_cast<char>(draw());
    try {
      parquet_documents(changed, "text", "file.parquet");
    } catch (const ConfigError& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find_first_of("\n\r"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, 200);
}

INSTANTIATE_TEST_SUITE_P(, Parquet, testing::Values(kSnappyFile, kPlainFile),
                         [](const auto& test) { return std::string(test.index == 0 ? "Snappy" : "Plain"); });

TEST(ParquetName, EndsInParquet) {
  EXPECT_TRUE(is_parquet("a/b.parquet"));
  EXPECT_FALSE(is_parquet("parquet.txt"));
}

}  // namespace
}  // namespace mmoe
