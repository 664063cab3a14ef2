#pragma once
// Sizes of one micro-batch and of the model as one rank sees them.

#include <cstdint>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// Everything that parallelism divides. Counts are doubles: they enter products that pass 2^63.
struct RankShapes {
  double tokens = 0;        // of one micro-batch in attention and dense layers: micro_batch_size seq_len / context
  double split_tokens = 0;  // between tensor-parallel blocks: tokens / tensor with sequence parallelism, else tokens
  double seq_len = 0;       // whole sequences
  double sequences = 0;     // micro_batch_size
  double hidden_size = 0;
  double heads = 0, kv_heads = 0;  // of this rank; key-value heads are copied where there are fewer than ranks
  double head_dim = 0, value_head_dim = 0;
  double query_size = 0, kv_size = 0, attention_output_size = 0;  // widths on this rank
  double dense_hidden_size = 0, shared_expert_hidden_size = 0;
  double expert_hidden_size = 0, local_experts = 0;
  double rows_per_k = 0;   // rows that reach this rank's experts for each active expert, balanced load
  double vocabulary = 0;   // of this rank, padded
  double head_tokens = 0;  // whose logits over it this rank makes
  double element = 0;      // bytes of a number by element_bytes
};

// Of one number as weights are computed with and as activations are kept and sent: formats below 16 bits are made from
// it where they are used.
double element_bytes(Precision precision);

RankShapes rank_shapes(const Job& job, const Framework& framework);

}  // namespace mmoe
