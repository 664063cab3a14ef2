#include "train/loop/evaluate.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <limits>
#include <numbers>
#include <numeric>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

double bits_per_byte(double nats, double bytes) {
  return bytes > 0 ? nats / std::numbers::ln2 / bytes : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

int64_t evaluation_batch(int64_t seq_len) { return std::max<int64_t>(1, 4096 / seq_len); }

Evaluation evaluate(Transformer& transformer, const EvaluationWindows& windows, const std::vector<int>& k_per_layer,
                    int64_t max_windows, int64_t batch, const Communicator& group, int64_t sharing) {
  const c10::NoGradGuard no_grad;
  const int64_t seq_len = windows.seq_len();
  const int64_t count = max_windows > 0 ? std::min(max_windows, windows.count()) : windows.count();
  const int64_t batches = (count + batch - 1) / batch;
  const at::Tensor losses_W = at::zeros({count}, at::TensorOptions().dtype(at::kDouble).device(transformer.device()));
  const at::Tensor tokens_W = at::zeros({count}, at::kDouble);  // targets of each window, on the host
  const bool reports = group.rank() % sharing == 0;
  for (int64_t turn = 0; turn < batches; turn += group.size() / sharing) {
    // Every rank runs equally often, as it computes for the others too where experts are shared out: one without a
    // batch runs the last, for nothing.
    const int64_t own = turn + group.rank() / sharing, first = std::min(own, batches - 1) * batch;
    const int64_t rows = std::min(batch, count - first);
    const at::Tensor tokens = at::empty({rows, seq_len}, at::kInt), targets = at::empty({rows, seq_len}, at::kInt);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t counted = windows.window(first + r, tokens.data_ptr<int32_t>() + r * seq_len,
                                             targets.data_ptr<int32_t>() + r * seq_len);
      if (own < batches && reports) tokens_W.data_ptr<double>()[first + r] = static_cast<double>(counted);
    }
    std::vector<int64_t> documents;
    if (windows.documents() == Documents::kApart) {
      documents = document_lengths(targets.data_ptr<int32_t>(), targets.numel(), seq_len);
    }
    const at::Tensor losses = transformer
                                  .evaluate(tokens.view({-1}).to(transformer.device()),
                                            targets.view({-1}).to(transformer.device()), k_per_layer, documents)
                                  .view({rows, seq_len})
                                  .to(at::kDouble)
                                  .sum(1);
    if (own < batches && reports) losses_W.narrow(0, first, rows).copy_(losses);
  }
  const at::Tensor sums_2W = at::stack({losses_W, tokens_W.to(transformer.device())});
  group.all_reduce(sums_2W).wait();  // each is of one rank, the others add zero: exact
  const at::Tensor host_2W = sums_2W.cpu();
  const double *const losses = host_2W.data_ptr<double>(), *const tokens = losses + count;
  Evaluation result;
  double total = 0;
  for (int64_t w = 0; w < count; ++w) {
    result.window_losses.push_back(losses[w]);
    result.window_tokens.push_back(static_cast<int64_t>(tokens[w]));
    total += result.window_losses.back();
    result.tokens += result.window_tokens.back();
    result.bytes += windows.target_bytes(w);
  }
  result.loss = total / static_cast<double>(result.tokens);
  result.bits_per_byte = bits_per_byte(total, static_cast<double>(result.bytes));
  return result;
}

std::vector<double> blend_shares(const std::vector<Evaluation>& parts, const std::vector<double>& weights) {
  MMOE_CHECK(parts.size() == weights.size()) << parts.size() << " parts, " << weights.size() << " weights";
  std::vector<double> shares;
  for (size_t i = 0; i < parts.size(); ++i) {
    shares.push_back(weights[i] > 0 ? weights[i] : static_cast<double>(parts[i].tokens));
  }
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= total;
  return shares;
}

Evaluation blended(const std::vector<Evaluation>& parts, const std::vector<double>& shares) {
  Evaluation result;
  double bytes_per_token = 0;
  bool text_is_known = true;
  for (size_t i = 0; i < parts.size(); ++i) {
    result.loss += shares[i] * parts[i].loss;
    bytes_per_token += shares[i] * static_cast<double>(parts[i].bytes) / static_cast<double>(parts[i].tokens);
    text_is_known = text_is_known && parts[i].bytes > 0;
    result.tokens += parts[i].tokens;
    result.bytes += parts[i].bytes;
  }
  if (!text_is_known) result.bytes = 0;
  result.bits_per_byte = bits_per_byte(result.loss, text_is_known ? bytes_per_token : 0);
  return result;
}

}  // namespace mmoe
