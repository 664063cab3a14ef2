#pragma once
// Which split each document belongs to.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace mmoe {

enum class Split { kTrain, kValid, kSearch, kTest };
inline constexpr std::array<Split, 4> kSplits = {Split::kTrain, Split::kValid, Split::kSearch, Split::kTest};

// "train", "valid", "search", "test": in file names, JSON keys and flags.
std::string_view split_name(Split split);
// ConfigError, naming `where` (the flag or key that gave `name`), for any other name.
Split parse_split(std::string_view name, std::string_view where);

// Fractions of the documents, in the order of kSplits; they sum to 1.
using SplitFractions = std::array<double, 4>;
inline constexpr SplitFractions kDefaultSplitFractions = {0.9, 0.04, 0.03, 0.03};
// "0.9,0.04,0.03,0.03"; ConfigError unless these are four numbers from 0 to 1 that sum to 1 within 1e-6.
SplitFractions parse_split_fractions(std::string_view flag);

// The split of each of `num_documents` documents: a function of its arguments alone.
// Law: the documents are cut into runs of consecutive ones (num_documents / 256, at least 1, to a run), the runs are
// shuffled by `seed`, and the shuffled sequence is cut at the fractions. Neighbours, which may be near-duplicates, thus
// fall apart only at a run's end, and each split still samples the whole text.
// Each split of a positive fraction gets at least one document; ConfigError when there are too few for that.
std::vector<Split> assign_splits(int64_t num_documents, const SplitFractions& fractions, uint64_t seed);

}  // namespace mmoe
