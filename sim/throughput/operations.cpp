#include "sim/throughput/operations.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "sim/formulas/bytes_moved.h"
#include "sim/formulas/expected_multiples.h"
#include "sim/formulas/model_flops.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/memory/chunks.h"
#include "sim/memory/layer_memory.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr std::array<std::string_view, 12> kOperationNames = {
    "embedding", "norm", "qkv",           "attention", "attention_output", "router",
    "experts",   "mlp",  "shared_expert", "loss_head", "gradient_norm",    "optimizer"};
constexpr std::array<std::string_view, 4> kPhaseNames = {"forward", "backward", "recompute", "update"};

// On CUDA each expert's rows start at a multiple of this, as grouped products need.
constexpr double kCudaSegmentRows = 8;

// Sizes of one micro-batch, by the letters of operations: T tokens, D hidden, V vocabulary, b bytes an element.
struct Sizes {
  explicit Sizes(const Job& job)
      : T(static_cast<double>(job.training.micro_batch_tokens())),
        D(static_cast<double>(job.model.hidden_size)),
        query(static_cast<double>(job.model.query_size())),
        kv(static_cast<double>(job.model.kv_size())),
        b(compute_bytes(job.training.precision)),
        gradient(accumulate_bytes(job.training.precision)) {}
  double T, D, query, kv, b, gradient;
};

// Adds the pieces of one operation in one phase to a list.
class Pieces {
 public:
  Pieces(std::vector<OperationCost>& list, const Job& job, Operation operation, Phase phase, int layer, int k = 0)
      : list_(list),
        accumulate_(accumulate_bytes(job.training.precision)),
        sum_passes_(job.parallelism.zero_stage >= 2
                        ? 2
                        : 2 - 1 / static_cast<double>(std::max<int64_t>(1, job.num_micro_batches()))) {
    base_.operation = operation;
    base_.phase = phase;
    base_.layer = layer;
    base_.k = k;
    base_.precision = job.training.precision;
  }

  Pieces& in_precision(Precision precision) {
    base_.precision = precision;
    return *this;
  }

  // C[rows, columns] (+)= A[rows, inner] B[inner, columns], `calls` times.
  Pieces& gemm(double rows, double columns, double inner, GemmOutput output = GemmOutput::kWritten, double calls = 1) {
    const double b = compute_bytes(base_.precision);
    const Bytes bytes = gemm_bytes(rows, columns, inner, b, b, output);
    return products(CostClass::kGemm, rows, columns, inner, bytes.value * calls, bytes.value, calls, calls);
  }

  // dW[rows, columns] += x^T dy over `inner` tokens. In mixed precision the product is formed in the compute type and
  // then added in the accumulate type. A step's first sum takes the place of what was there, but where gradients are
  // shared out.
  Pieces& weight_gradient(double rows, double columns, double inner, double calls = 1) {
    const double bytes =
        (rows + columns) * inner * compute_bytes(base_.precision) + weight_gradient_bytes(rows * columns);
    return products(CostClass::kGemm, rows, columns, inner, bytes * calls, bytes, calls, calls);
  }

  // Traffic of a weight gradient of that many elements.
  double weight_gradient_bytes(double elements) const {
    const double b = compute_bytes(base_.precision);
    return elements * (sum_passes_ * accumulate_ + (b < accumulate_ ? 2 * b : 0));
  }

  // `products` equal matrix products in `calls` calls, which move `bytes` in all.
  Pieces& products(CostClass cost_class, double rows, double columns, double inner, double bytes, double working_set,
                   double products, double calls) {
    OperationCost cost = base_;
    cost.cost_class = cost_class;
    cost.flops = matmul_flops(rows, columns, inner).value * products;
    cost.bytes = bytes;
    cost.working_set = working_set;
    cost.rows = rows;
    cost.columns = columns;
    cost.inner = inner;
    cost.calls = calls;
    list_.push_back(cost);
    return *this;
  }

  // Elementwise passes over `bytes` in all.
  Pieces& memory(double bytes, double calls = 1, double exponentials = 0, double working_set = 0) {
    OperationCost cost = base_;
    cost.cost_class = base_.phase == Phase::kUpdate             ? CostClass::kUpdate
                      : base_.operation == Operation::kLossHead ? CostClass::kLoss
                                                                : CostClass::kMemory;
    cost.bytes = bytes;
    cost.exponentials = exponentials;
    cost.working_set = working_set > 0 ? working_set : bytes / calls;
    cost.calls = calls;
    list_.push_back(cost);
    return *this;
  }

  Pieces& attention(double flops, double bytes, double exponentials, double seq_len, double head_dim) {
    OperationCost cost = base_;
    cost.cost_class = CostClass::kAttention;
    cost.flops = flops;
    cost.bytes = bytes;
    cost.working_set = bytes;
    cost.exponentials = exponentials;
    cost.rows = cost.columns = seq_len;
    cost.inner = head_dim;
    list_.push_back(cost);
    return *this;
  }

 private:
  std::vector<OperationCost>& list_;
  double accumulate_, sum_passes_;
  OperationCost base_;
};

void add_norm(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer, double calls) {
  const Sizes s(job);
  // Forward reads x and writes y; backward reads x, dy and the residual's gradient and writes dx.
  const double passes = phase == Phase::kBackward ? 4 : 2;
  Pieces(list, job, Operation::kNorm, phase, layer).memory(calls * passes * s.T * s.D * s.b, calls);
}

void add_qkv(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer) {
  const Sizes s(job);
  const double width = s.query + 2 * s.kv;
  const double rotated = s.T * (s.query + s.kv) * s.b;  // bytes of queries and keys
  const bool normed = job.model.qk_norm != QkNorm::kNone;
  Pieces pieces(list, job, Operation::kQkv, phase, layer);
  if (phase == Phase::kBackward) {
    pieces.memory(2 * rotated);
    if (normed) pieces.memory(3 * rotated, 2);
    pieces.gemm(s.T, s.D, width).weight_gradient(s.D, width, s.T);
    return;
  }
  pieces.gemm(s.T, width, s.D);
  if (normed) pieces.memory(2 * rotated, 2);
  pieces.memory(2 * rotated);
}

void add_attention(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer) {
  const Sizes s(job);
  const double seq_len = static_cast<double>(job.training.seq_len);
  const double sequences = static_cast<double>(job.training.micro_batch_size);
  const double forward = attention_flops(job.model, seq_len, sequences).value;
  const double scores = sequences * static_cast<double>(job.model.num_heads) * causal_pairs(seq_len);
  const bool backward = phase == Phase::kBackward;
  const Bytes bytes =
      backward ? attention_backward_bytes(s.T, s.query, s.kv, s.b) : attention_forward_bytes(s.T, s.query, s.kv, s.b);
  // Two products forward; five backward, since the scores are computed again (Dao et al. 2022, algorithm 4).
  Pieces(list, job, Operation::kAttention, phase, layer)
      .attention(backward ? 2.5 * forward : forward, bytes.value, scores, seq_len,
                 static_cast<double>(job.model.head_dim));
}

void add_attention_output(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer) {
  const Sizes s(job);
  Pieces pieces(list, job, Operation::kAttentionOutput, phase, layer);
  if (phase == Phase::kBackward) {
    pieces.gemm(s.T, s.query, s.D).weight_gradient(s.query, s.D, s.T);
  } else {
    pieces.gemm(s.T, s.D, s.query, GemmOutput::kAccumulated);
  }
}

void add_router(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer, int k) {
  const Sizes s(job);
  const Precision precision = job.training.precision == Precision::kFp64 ? Precision::kFp64 : Precision::kFp32;
  const double b = compute_bytes(precision);
  const double E = static_cast<double>(job.model.num_experts);
  const double conversion = precision == job.training.precision ? 0 : s.T * s.D * (s.b + b);
  Pieces pieces(list, job, Operation::kRouter, phase, layer, k);
  pieces.in_precision(precision);
  if (phase == Phase::kBackward) {
    pieces.memory(3 * s.T * E * b).gemm(s.T, s.D, E).weight_gradient(s.D, E, s.T);
  } else {
    // Softmax reads and writes the logits; top-k reads the probabilities and writes k weights and indices, which the
    // counting sort reads and writes once more.
    pieces.gemm(s.T, E, s.D).memory(3 * s.T * E * b + 4 * s.T * k * (b + 4), 1, s.T * E);
  }
  if (conversion > 0) pieces.memory(conversion);
}

// The matrix products that the experts' rows are cut into, in expectation over loads that spread around their mean.
struct ExpertProducts {
  double active;  // experts that have rows
  double rows;    // all rows, padding included
  double count;   // products: chunks on the CPU, one an expert where a grouped launch serves all experts
  double calls;
};

ExpertProducts expert_products(const Job& job, double pairs) {
  const double experts = static_cast<double>(job.model.num_experts);
  const double mean_rows = pairs / experts;
  // Padding: on the CPU in mixed precision where oneDNN forms the products, elsewhere as the trainer's grouped product
  // aligns its segments.
  const bool mixed = compute_bytes(job.training.precision) < accumulate_bytes(job.training.precision);
  const double multiple = job.hardware.spec.is_cpu ? static_cast<double>(cpu_segment_rows(mixed)) : kCudaSegmentRows;
  ExpertProducts products{};
  products.active = experts * (1 - std::exp(-mean_rows));
  products.rows = multiple > 1 ? experts * multiple * expected_multiples(mean_rows, multiple) : pairs;
  const double chunks = experts * expected_multiples(mean_rows, static_cast<double>(kExpertChunkRows));
  products.count = job.hardware.spec.is_cpu ? chunks : products.active;
  products.calls = job.hardware.spec.is_cpu ? chunks : 1;
  return products;
}

void add_experts(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer, int k) {
  const Sizes s(job);
  const double F = static_cast<double>(job.model.expert_hidden_size);
  const double pairs = s.T * k;
  const ExpertProducts p = expert_products(job, pairs);
  const double rows = p.rows / p.count;
  const double all_weights = 3 * s.D * F * static_cast<double>(job.model.num_experts);

  Pieces pieces(list, job, Operation::kExperts, phase, layer, k);
  const auto product = [&](double columns, double inner) {
    const double bytes = (p.rows * (columns + inner) + p.active * columns * inner) * s.b;
    pieces.products(CostClass::kGroupedGemm, rows, columns, inner, bytes, all_weights * s.b, p.count, p.calls);
  };
  const auto weight_gradient = [&](double m, double n) {
    const double bytes = p.rows * (m + n) * s.b + p.count * pieces.weight_gradient_bytes(m * n);
    pieces.products(CostClass::kGroupedGemm, m, n, rows, bytes, all_weights * s.gradient, p.count, p.calls);
  };
  const double token_set = 2 * s.T * s.D * s.b;  // gather and scatter move within the tokens' activations
  const double chunk_set = 3 * rows * F * s.b;   // SwiGLU works on what the product has just written
  const double gather = 2 * pairs * s.D * s.b;   // rows read and written
  const ExpertSaving saving = job.training.expert_saving;
  // Rows read, sums read and written in the accumulate type, which the residual is turned into and back from.
  const double conversion = s.b < s.gradient ? 2 * s.T * s.D * (s.b + s.gradient) : 0;
  const double scatter = pairs * s.D * (s.b + 2 * s.gradient) + conversion;
  if (phase == Phase::kBackward) {
    // Of the gradient's rows, and of the input's where those are not kept or the product of gate and up runs again.
    const double gathers = saving == ExpertSaving::kAll ? 1 : saving == ExpertSaving::kLean ? 2 : 3;
    pieces.memory(gathers * gather, 1, 0, token_set);
    if (saving == ExpertSaving::kRecompute) product(2 * F, s.D);
    product(F, s.D);  // gradient of the activation
    pieces.memory((saving == ExpertSaving::kAll ? 5 : 6) * p.rows * F * s.b, 1, p.rows * F, 2 * chunk_set);
    weight_gradient(F, s.D);
    product(s.D, 2 * F);  // gradient of the input
    weight_gradient(s.D, 2 * F);
    pieces.memory(scatter, 1, 0, token_set);
    return;
  }
  pieces.memory(gather, 1, 0, token_set);
  product(2 * F, s.D);
  pieces.memory(3 * p.rows * F * s.b, 1, p.rows * F, chunk_set);
  product(s.D, F);
  pieces.memory(scatter, 1, 0, token_set);
}

// A dense SwiGLU block: a dense layer's, or the shared expert.
void add_swiglu(std::vector<OperationCost>& list, const Job& job, Operation operation, Phase phase, int layer,
                double width) {
  const Sizes s(job);
  Pieces pieces(list, job, operation, phase, layer);
  if (phase == Phase::kBackward) {
    pieces.gemm(s.T, width, s.D)
        .memory(6 * s.T * width * s.b, 1, s.T * width)
        .weight_gradient(width, s.D, s.T)
        .gemm(s.T, s.D, 2 * width)
        .weight_gradient(s.D, 2 * width, s.T);
    return;
  }
  pieces.gemm(s.T, 2 * width, s.D)
      .memory(3 * s.T * width * s.b, 1, s.T * width)
      .gemm(s.T, s.D, width, GemmOutput::kAccumulated);
}

void add_attention_block(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer) {
  add_qkv(list, job, phase, layer);
  add_attention(list, job, phase, layer);
  add_attention_output(list, job, phase, layer);
}

void add_feed_forward(std::vector<OperationCost>& list, const Job& job, Phase phase, int layer, int k) {
  const ModelConfig& model = job.model;
  if (!model.is_moe_layer(layer)) {
    add_swiglu(list, job, Operation::kMlp, phase, layer, static_cast<double>(model.dense_hidden_size));
    return;
  }
  add_router(list, job, phase, layer, k);
  add_experts(list, job, phase, layer, k);
  if (model.shared_expert_hidden_size > 0) {
    add_swiglu(list, job, Operation::kSharedExpert, phase, layer, static_cast<double>(model.shared_expert_hidden_size));
  }
}

void add_embedding(std::vector<OperationCost>& list, const Job& job) {
  const Sizes s(job);
  const double rows = s.T * s.D;
  Pieces(list, job, Operation::kEmbedding, Phase::kForward, -1).memory(2 * rows * s.b);
  Pieces(list, job, Operation::kEmbedding, Phase::kBackward, -1).memory(rows * (s.b + 2 * s.gradient));
}

void add_loss_head(std::vector<OperationCost>& list, const Job& job) {
  const Sizes s(job);
  const double V = static_cast<double>(job.model.vocab_size);
  const int64_t chunk_rows = loss_chunk_rows(job.training.micro_batch_tokens(), job.model.vocab_size);
  const double chunks = std::ceil(s.T / static_cast<double>(chunk_rows));
  const double rows = s.T / chunks;
  // Logits, the loss in place (maximum, sum of exponentials, gradient), and both gradients, chunk by chunk.
  Pieces(list, job, Operation::kLossHead, Phase::kForward, -1)
      .gemm(rows, V, s.D, GemmOutput::kWritten, chunks)
      .memory(4 * s.T * V * s.b, chunks, s.T * V)
      .gemm(rows, s.D, V, GemmOutput::kWritten, chunks)
      .weight_gradient(V, s.D, rows, chunks);
}

}  // namespace

std::string_view operation_name(Operation operation) { return kOperationNames[static_cast<size_t>(operation)]; }
std::string_view phase_name(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

std::optional<Operation> operation_named(std::string_view name) {
  for (size_t i = 0; i < kOperationNames.size(); ++i) {
    if (kOperationNames[i] == name) return static_cast<Operation>(i);
  }
  return std::nullopt;
}

std::optional<Phase> phase_named(std::string_view name) {
  for (size_t i = 0; i < kPhaseNames.size(); ++i) {
    if (kPhaseNames[i] == name) return static_cast<Phase>(i);
  }
  return std::nullopt;
}

std::string operation_label(std::string_view operation, std::string_view phase, int layer, int k) {
  std::string label = layer < 0 ? "" : "layer " + std::to_string(layer) + " ";
  label.append(operation).append(" ").append(phase);
  return k > 0 ? label + " k=" + std::to_string(k) : label;
}

std::string layer_label(int layer, int k) {
  return "layer " + std::to_string(layer) + " forward" + (k > 0 ? " k=" + std::to_string(k) : "");
}

std::vector<OperationCost> layer_operations(const Job& job, int layer, int k) {
  std::vector<OperationCost> list;
  if (layer < 0) {
    add_embedding(list, job);
    add_norm(list, job, Phase::kForward, -1, 1);
    add_norm(list, job, Phase::kBackward, -1, 1);
    add_loss_head(list, job);
    return list;
  }
  const bool recompute_attention = job.training.recompute.full || job.training.recompute.has("attention");
  const bool recompute_feed_forward = job.training.recompute.full || job.training.recompute.has("moe");
  for (const Phase phase : {Phase::kForward, Phase::kRecompute, Phase::kBackward}) {
    const bool again = phase == Phase::kRecompute;
    const bool attention = !again || recompute_attention, feed_forward = !again || recompute_feed_forward;
    if (attention || feed_forward) {
      add_norm(list, job, phase, layer, (attention ? 1 : 0) + (feed_forward ? 1 : 0));
    }
    if (attention) add_attention_block(list, job, phase, layer);
    if (feed_forward) add_feed_forward(list, job, phase, layer, k);
  }
  return list;
}

std::vector<OperationCost> step_operations(const Job& job, const std::vector<int>& k_per_layer) {
  MMOE_CHECK(static_cast<int64_t>(k_per_layer.size()) == job.model.num_moe_layers())
      << "one k for each MoE layer, got " << k_per_layer.size();
  std::vector<OperationCost> list = layer_operations(job, -1, 0);
  for (int layer = 0; layer < job.model.num_layers; ++layer) {
    const int k =
        job.model.is_moe_layer(layer) ? k_per_layer[static_cast<size_t>(layer - job.model.num_dense_layers)] : 0;
    const std::vector<OperationCost> costs = layer_operations(job, layer, k);
    list.insert(list.end(), costs.begin(), costs.end());
  }
  return list;
}

std::vector<OperationCost> update_operations(const Job& job) {
  std::vector<OperationCost> list;
  const double parameters = parameter_counts(job.model).total();
  const double gradient = accumulate_bytes(job.training.precision);
  const double copy = compute_bytes(job.training.precision) < 4 ? compute_bytes(job.training.precision) : 0;
  const double moment = std::max(compute_bytes(job.training.optimizer_precision), gradient == 8 ? 8.0 : 0.0);
  Pieces(list, job, Operation::kGradientNorm, Phase::kUpdate, -1).memory(parameters * gradient);
  Pieces(list, job, Operation::kOptimizer, Phase::kUpdate, -1)
      .memory(adamw_bytes(parameters, gradient, moment, copy, job.hardware.spec.is_cpu ? 1 : 2).value);
  return list;
}

}  // namespace mmoe
