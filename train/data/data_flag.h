#pragma once
// What --data names: one data set, or several with weights.

#include <memory>
#include <string>
#include <vector>

#include "train/data/batches.h"
#include "train/data/dataset.h"

namespace mmoe {

struct WeighedPrefix {
  std::string prefix;
  double weight = 0;  // 0: none was given
};

// Each of `values` is PREFIX or WEIGHT:PREFIX. ConfigError for a weight that is not above 0, an empty prefix, one that
// is named twice, and where only some have weights.
std::vector<WeighedPrefix> parse_data_flag(const std::vector<std::string>& values);

// The opened data sets of a blend, all with the same tokenizer.
class DataBlend {
 public:
  // ConfigError as Dataset has it, and where two differ in their tokenizer.
  explicit DataBlend(std::vector<WeighedPrefix> prefixes);

  const std::vector<WeighedPrefix>& prefixes() const { return prefixes_; }
  const Dataset& dataset(size_t index) const { return *datasets_[index]; }
  // In the order of prefixes().
  std::vector<DataSource> sources(Split split) const;

 private:
  std::vector<WeighedPrefix> prefixes_;
  std::vector<std::unique_ptr<Dataset>> datasets_;
};

}  // namespace mmoe
