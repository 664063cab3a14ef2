#pragma once
// Loss of a model on a split, at a fixed k for every MoE layer.

#include <cstdint>
#include <vector>

#include "train/data/batches.h"
#include "train/model/transformer.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

struct Evaluation {
  double loss = 0;           // mean nats per token
  double bits_per_byte = 0;  // NaN where the tokens stand for no known text
  int64_t tokens = 0;
  int64_t bytes = 0;                       // of text that the tokens stand for; 0: not known
  std::vector<double> window_losses = {};  // sum of nats by window, in the split's order
  std::vector<int64_t> window_tokens = {};
};

// Sequences that an evaluation runs at once: about 4,096 tokens.
int64_t evaluation_batch(int64_t seq_len);

// Evaluates the first `max_windows` windows (0: all) in batches of `batch` sequences. Ranks of `group`, each with the
// whole model or its part of the experts, take batches in turn, `sharing` consecutive ones (tensor and context
// parallel) together; all call it, and get the same result.
Evaluation evaluate(Transformer& transformer, const EvaluationWindows& windows, const std::vector<int>& k_per_layer,
                    int64_t max_windows, int64_t batch, const Communicator& group = no_groups().world,
                    int64_t sharing = 1);

// What share of a blend's tokens each data set has: its weight over all weights; without weights (0 for all) its tokens
// over all tokens.
std::vector<double> blend_shares(const std::vector<Evaluation>& parts, const std::vector<double>& weights);

// A blend's evaluation from those of its data sets and their shares of its tokens. `tokens` and `bytes` are sums over
// what was evaluated; windows are left out.
Evaluation blended(const std::vector<Evaluation>& parts, const std::vector<double>& shares);

}  // namespace mmoe
