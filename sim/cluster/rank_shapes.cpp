#include "sim/cluster/rank_shapes.h"

#include <algorithm>
#include <cmath>

namespace mmoe {

double element_bytes(Precision precision) {
  return precision == Precision::kFp64 ? 8 : precision == Precision::kFp32 ? 4 : 2;
}

RankShapes rank_shapes(const Job& job, const Framework& framework) {
  const ModelConfig& model = job.model;
  const ParallelismConfig& parallelism = job.parallelism;
  const auto tensor = static_cast<double>(parallelism.tensor);
  const auto expert_tensor = static_cast<double>(parallelism.expert_tensor);
  RankShapes s;
  s.sequences = static_cast<double>(job.training.micro_batch_size);
  s.seq_len = static_cast<double>(job.training.seq_len);
  s.tokens = s.sequences * s.seq_len / static_cast<double>(parallelism.context);
  s.split_tokens = parallelism.sequence ? s.tokens / tensor : s.tokens;
  s.hidden_size = static_cast<double>(model.hidden_size);
  s.heads = static_cast<double>(model.num_heads) / tensor;
  s.kv_heads = std::max(1.0, static_cast<double>(model.num_kv_heads) / tensor);
  s.head_dim = static_cast<double>(model.head_dim);
  s.value_head_dim = static_cast<double>(model.value_head_dim());
  s.query_size = s.heads * s.head_dim;
  s.kv_size = s.kv_heads * s.head_dim;
  s.attention_output_size = s.heads * s.value_head_dim;
  s.dense_hidden_size = static_cast<double>(model.dense_hidden_size) / tensor;
  s.shared_expert_hidden_size = static_cast<double>(model.shared_expert_hidden_size) / tensor;
  s.expert_hidden_size = static_cast<double>(model.expert_hidden_size) / expert_tensor;
  s.local_experts = static_cast<double>(model.num_experts) / static_cast<double>(parallelism.expert);
  // Each rank sends its own tokens; the expert-tensor group gathers those of its members. Without sequence parallelism
  // tensor-parallel ranks hold the same tokens, and each takes its share into the experts.
  s.rows_per_k = s.tokens / tensor * expert_tensor;
  const double multiple = framework.vocabulary_multiple;
  const double parts = framework.splits_vocabulary ? tensor : 1;
  s.vocabulary = std::ceil(static_cast<double>(model.vocab_size) / parts / multiple) * multiple;
  s.head_tokens = framework.splits_vocabulary ? s.tokens : s.split_tokens;
  s.element = element_bytes(job.training.precision);
  return s;
}

}  // namespace mmoe
