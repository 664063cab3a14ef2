#include "train/data/splits.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string>

#include "sim/units/errors.h"
#include "train/data/counter_random.h"

namespace mmoe {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"train", "valid", "search", "test"};
constexpr int64_t kNumRuns = 256;

// Documents per split: the largest remainders round up, and no positive fraction goes without.
std::array<int64_t, 4> apportion(int64_t num_documents, const SplitFractions& fractions) {
  std::array<int64_t, 4> counts = {};
  std::array<double, 4> remainder = {};
  for (size_t i = 0; i < counts.size(); ++i) {
    const double share = fractions[i] * static_cast<double>(num_documents);
    counts[i] = std::max<int64_t>(static_cast<int64_t>(share), fractions[i] > 0 ? 1 : 0);
    remainder[i] = share - static_cast<double>(counts[i]);
  }
  for (int64_t left = num_documents - std::accumulate(counts.begin(), counts.end(), int64_t{0}); left != 0;) {
    size_t best = counts.size();
    for (size_t i = 0; i < counts.size(); ++i) {
      const bool eligible = left > 0 ? fractions[i] > 0 : counts[i] > 1;
      const auto better = [&] { return left > 0 ? remainder[i] > remainder[best] : remainder[i] < remainder[best]; };
      if (eligible && (best == counts.size() || better())) best = i;
    }
    const int64_t step = left > 0 ? 1 : -1;
    counts[best] += step;
    remainder[best] -= static_cast<double>(step);
    left -= step;
  }
  return counts;
}

}  // namespace

std::string_view split_name(Split split) { return kNames[static_cast<size_t>(split)]; }

Split parse_split(std::string_view name, std::string_view where) {
  for (const Split split : kSplits) {
    if (split_name(split) == name) return split;
  }
  throw ConfigError(std::string(where) + ": there is no split '" + std::string(name) +
                    "'; use train, valid, search or test");
}

SplitFractions parse_split_fractions(std::string_view flag) {
  const std::string where = "--split " + std::string(flag) + ": ";
  SplitFractions fractions = {};
  const char* at = flag.data();
  const char* const end = at + flag.size();
  for (size_t i = 0; i < fractions.size(); ++i) {
    const auto [next, error] = std::from_chars(at, end, fractions[i]);
    const bool last = i + 1 == fractions.size();
    if (error != std::errc{} || (last ? next != end : next == end || *next != ',')) {
      throw ConfigError(where + "needs four numbers for train,valid,search,test, such as 0.9,0.04,0.03,0.03");
    }
    if (!(fractions[i] >= 0 && fractions[i] <= 1)) {
      throw ConfigError(where + "the fraction of " + std::string(kNames[i]) + " is not between 0 and 1");
    }
    at = last ? next : next + 1;
  }
  const double sum = std::accumulate(fractions.begin(), fractions.end(), 0.0);
  if (std::abs(sum - 1) > 1e-6) {
    throw ConfigError(where + "the fractions sum to " + std::to_string(sum) + "; they must sum to 1");
  }
  return fractions;
}

std::vector<Split> assign_splits(int64_t num_documents, const SplitFractions& fractions, uint64_t seed) {
  const auto needed = std::count_if(fractions.begin(), fractions.end(), [](double fraction) { return fraction > 0; });
  if (num_documents < needed) {
    throw ConfigError("--split asks for " + std::to_string(needed) + " non-empty splits, but the text has only " +
                      std::to_string(num_documents) + (num_documents == 1 ? " document" : " documents") +
                      "; name what separates documents with --separator, or give fewer splits a share");
  }
  const int64_t run_size = std::max<int64_t>(1, num_documents / kNumRuns);
  std::vector<int64_t> runs(static_cast<size_t>((num_documents + run_size - 1) / run_size));
  std::iota(runs.begin(), runs.end(), 0);
  for (size_t i = runs.size(); i > 1; --i) {  // Fisher-Yates; the bias of % is below 2^-55 for so few runs
    std::swap(runs[i - 1], runs[counter_random(seed, i) % i]);
  }
  const std::array<int64_t, 4> counts = apportion(num_documents, fractions);
  std::vector<Split> splits(static_cast<size_t>(num_documents));
  int64_t position = 0, filled = 0;
  size_t current = 0;
  for (const int64_t run : runs) {
    const int64_t end = std::min((run + 1) * run_size, num_documents);
    for (int64_t document = run * run_size; document < end; ++document, ++position) {
      while (position >= filled + counts[current]) filled += counts[current++];
      splits[static_cast<size_t>(document)] = kSplits[current];
    }
  }
  return splits;
}

}  // namespace mmoe
