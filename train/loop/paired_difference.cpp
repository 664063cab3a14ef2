#include "train/loop/paired_difference.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

#include "sim/units/errors.h"

namespace mmoe {

PairedDifference paired_difference(const Evaluation& first, const Evaluation& second, int64_t windows_per_block) {
  MMOE_CHECK(first.window_tokens == second.window_tokens) << "the windows must be the same";
  const auto count = static_cast<int64_t>(first.window_tokens.size());
  MMOE_CHECK(windows_per_block > 0 && count > windows_per_block) << count << " windows need two blocks";
  std::vector<double> losses, tokens;  // of each block
  for (int64_t i = 0; i < count; ++i) {
    if (i % windows_per_block == 0) {
      losses.push_back(0);
      tokens.push_back(0);
    }
    losses.back() += first.window_losses[i] - second.window_losses[i];
    tokens.back() += static_cast<double>(first.window_tokens[i]);
  }
  double total_loss = 0, total_tokens = 0, squares = 0;
  for (size_t b = 0; b < losses.size(); ++b) {
    total_loss += losses[b];
    total_tokens += tokens[b];
  }
  const double mean = total_loss / total_tokens;
  for (size_t b = 0; b < losses.size(); ++b) squares += std::pow(losses[b] - mean * tokens[b], 2);
  const auto blocks = static_cast<double>(losses.size());
  const double error = std::sqrt(blocks / (blocks - 1) * squares) / total_tokens;
  const boost::math::students_t law(blocks - 1);
  const double t_interval = boost::math::quantile(law, 0.975), t_power = boost::math::quantile(law, 0.8);

  PairedDifference result;
  result.mean = mean;
  result.low = mean - t_interval * error;
  result.high = mean + t_interval * error;
  result.smallest_resolvable = (t_interval + t_power) * error;
  result.num_blocks = static_cast<int64_t>(losses.size());
  result.windows_per_block = windows_per_block;
  return result;
}

int64_t block_length(int64_t num_windows, double windows_per_document, const std::string& where) {
  if (num_windows < 2) {
    throw ConfigError(where + ": " + std::to_string(num_windows) +
                      " window is too little to compare two allocations; raise --max-sequences or build the data with "
                      "a larger share for this split");
  }
  const auto by_count = [&](int64_t blocks) { return std::max<int64_t>(1, num_windows / blocks); };
  const auto by_document = static_cast<int64_t>(std::ceil(std::min(windows_per_document, 1e9)));
  return std::clamp(by_document, by_count(32), by_count(8));
}

}  // namespace mmoe
