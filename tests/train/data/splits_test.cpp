#include "train/data/splits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

int64_t count(const std::vector<Split>& splits, Split split) { return std::count(splits.begin(), splits.end(), split); }

// Largest remainders leave each count within one document of its share; the floor of one document can move train
// further.
TEST(AssignSplits, CountsAreTheFractions) {
  for (const int64_t documents : {4, 5, 7, 33, 100, 1189, 5000, 100003}) {
    const std::vector<Split> splits = assign_splits(documents, kDefaultSplitFractions, 1);
    ASSERT_EQ(static_cast<int64_t>(splits.size()), documents);
    for (const Split split : kSplits) {
      const double share = kDefaultSplitFractions[static_cast<size_t>(split)] * static_cast<double>(documents);
      EXPECT_GE(count(splits, split), 1) << documents;
      if (documents >= 100) {
        EXPECT_LE(std::abs(static_cast<double>(count(splits, split)) - share), 1) << documents;
      }
    }
  }
}

TEST(AssignSplits, EachPositiveFractionGetsADocumentHoweverSmallItIs) {
  const std::vector<Split> splits = assign_splits(4, {0.999997, 1e-6, 1e-6, 1e-6}, 3);
  for (const Split split : kSplits) EXPECT_EQ(count(splits, split), 1);
  const std::vector<Split> no_search = assign_splits(10, {0.5, 0.25, 0, 0.25}, 3);
  EXPECT_EQ(count(no_search, Split::kSearch), 0);
  EXPECT_EQ(no_search.size(), 10u);
  EXPECT_EQ(count(assign_splits(9, {0, 0, 0, 1}, 0), Split::kTest), 9);
}

TEST(AssignSplits, DependsOnTheSeedAndIsRepeatable) {
  EXPECT_EQ(assign_splits(1000, kDefaultSplitFractions, 5), assign_splits(1000, kDefaultSplitFractions, 5));
  EXPECT_NE(assign_splits(1000, kDefaultSplitFractions, 5), assign_splits(1000, kDefaultSplitFractions, 6));
}

// 10,000 documents are runs of 39. A change of split between neighbours is a run's end (at most 257 of them) or one of
// the three cuts, and happens only where a held-out run begins or ends: about 2 * 0.1 * 257 = 51 times.
TEST(AssignSplits, NeighboursStayTogether) {
  const std::vector<Split> splits = assign_splits(10000, kDefaultSplitFractions, 2);
  int changes = 0;
  for (size_t i = 1; i < splits.size(); ++i) {
    if (splits[i] == splits[i - 1]) continue;
    ++changes;
  }
  EXPECT_LE(changes, 2 * 27 + 6);  // ceil(0.1 * 257) + 1 held-out runs, two ends each, and the cuts
  const auto middle = splits.begin() + 5000;
  EXPECT_GT(std::count(splits.begin(), middle, Split::kValid) + std::count(splits.begin(), middle, Split::kTest), 0);
  EXPECT_GT(std::count(middle, splits.end(), Split::kValid) + std::count(middle, splits.end(), Split::kTest), 0);
}

TEST(AssignSplits, TooFewDocumentsIsTheUsersMistake) {
  const std::string message = message_of<ConfigError>([] { assign_splits(1, kDefaultSplitFractions, 0); });
  EXPECT_NE(message.find("only 1 document;"), std::string::npos) << message;
  EXPECT_NE(message.find("--separator"), std::string::npos) << message;
  EXPECT_NO_THROW(assign_splits(1, {1, 0, 0, 0}, 0));
}

TEST(ParseSplitFractions, TakesFourNumbersThatSumToOne) {
  EXPECT_EQ(parse_split_fractions("0.9,0.04,0.03,0.03"), kDefaultSplitFractions);
  EXPECT_EQ(parse_split_fractions("1,0,0,0"), (SplitFractions{1, 0, 0, 0}));
  for (const char* bad : {"", "0.9", "0.9,0.1", "0.9,0.04,0.03,0.03,", "0.9,0.04,0.03,0.04", "1,0,0,0,0", "0.5,0.5,,0",
                          "a,b,c,d", "2,-1,0,0", "nan,0,0,1", "inf,0,0,0", " 1,0,0,0", "1,0,0,0x"}) {
    EXPECT_THROW(parse_split_fractions(bad), ConfigError) << bad;
  }
}

TEST(ParseSplit, KnowsTheFourNames) {
  for (const Split split : kSplits) EXPECT_EQ(parse_split(split_name(split), "--split"), split);
  const std::string message = message_of<ConfigError>([] { parse_split("dev", "--split"); });
  EXPECT_NE(message.find("'dev'"), std::string::npos) << message;
}

}  // namespace
}  // namespace mmoe
