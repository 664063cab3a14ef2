#include "train/loop/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "train/data/counter_random.h"

namespace mmoe {

int64_t sample_token(const at::Tensor& logits_V, const SamplingOptions& options, uint64_t position) {
  const at::Tensor on_cpu = logits_V.to(at::kDouble).cpu().contiguous();
  const double* const logits = on_cpu.data_ptr<double>();
  const auto count = static_cast<size_t>(on_cpu.numel());
  if (options.temperature == 0) return std::max_element(logits, logits + count) - logits;
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0 && order.size() > static_cast<size_t>(options.top_k)) {
    order.resize(static_cast<size_t>(options.top_k));
  }
  std::vector<double> weights;
  for (const int64_t token : order)
    weights.push_back(std::exp((logits[token] - logits[order[0]]) / options.temperature));
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t kept = 0;
  double reached = 0;
  while (kept < weights.size() && (kept == 0 || reached < options.top_p * total)) reached += weights[kept++];
  // 53 random bits in [0, 1).
  double rest = static_cast<double>(counter_random(options.seed, position) >> 11) * 0x1p-53 * reached;
  for (size_t i = 0; i + 1 < kept; ++i) {
    rest -= weights[i];
    if (rest < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace mmoe
