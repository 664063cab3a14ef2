#include "sim/memory/layer_memory.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "sim/memory/chunks.h"

namespace mmoe {
namespace {

constexpr double kIndexBytes = 4, kCountBytes = 8;

// Sizes of one layer. Dims as in train/ops: T tokens, D hidden, H and G heads, h head size, A = H h, C = (H + 2G) h,
// M = (H + G) h, E experts, F expert width, W width of a dense or shared feed-forward, K slots, R rows; b and a bytes
// of an element in the compute and the accumulate type. All are of one rank: with tensor parallelism it holds T tokens,
// and parts of the heads and of W, which see the N tokens of all tensor parallel ranks. In attention context parallel
// ranks hold a part of these heads for the tokens of all, which are as many numbers.
struct Sizes {
  double T, N, D, H, G, h, A, C, M, E, F, W, K, b, a;
  double rows, row_capacity;
  bool gated;          // shared expert with a gate
  bool exchanged;      // experts lie on several ranks
  double parts;        // of each expert, on as many ranks
  bool split_tokens;   // over tensor parallel ranks
  double context;      // ranks that exchange heads for tokens
  double received;     // pairs from the expert group: T K where this rank holds all experts
  double R;            // pairs that this rank's experts work on: those that ranks with parts of them received
  double own_experts;  // of E
  bool mixed;          // bf16 with fp32 sums
  bool cpu;
  QkNorm qk_norm;
  ExpertSaving saving;
  double seq_len;
  bool documents_apart;

  double stream() const { return T * D * b; }
  double wide_stream() const { return T * D * a; }
  double gathered() const { return N * D * b; }
  double sent() const { return T * K; }
  double sent_rows() const { return sent() * D * b; }
  double worked_rows() const { return R * D * b; }
  bool split() const { return exchanged || parts > 1; }
};

Sizes sizes(const Job& job, int64_t layer, int k, RoutedPairs pairs) {
  const ModelConfig& model = job.model;
  const bool moe = model.is_moe_layer(layer);
  Sizes s{};
  const auto tensor = static_cast<double>(job.parallelism.tensor);
  s.T = static_cast<double>(own_tokens(job));
  s.N = s.T * tensor;
  s.context = static_cast<double>(job.parallelism.context);
  s.split_tokens = job.parallelism.tensor > 1;
  s.D = static_cast<double>(model.hidden_size);
  s.H = static_cast<double>(model.num_heads) / tensor;
  s.G = static_cast<double>(model.num_kv_heads) / tensor;
  s.h = static_cast<double>(model.head_dim);
  s.A = s.H * s.h;
  s.C = (s.H + 2 * s.G) * s.h;
  s.M = (s.H + s.G) * s.h;
  s.E = static_cast<double>(model.num_experts);
  s.parts = static_cast<double>(job.parallelism.expert_tensor);
  s.F = static_cast<double>(model.expert_hidden_size) / s.parts;
  s.W = static_cast<double>(moe ? model.shared_expert_hidden_size : model.dense_hidden_size) / tensor;
  s.gated = moe && model.shared_expert_gate;
  s.K = moe ? k : 0;
  s.b = compute_bytes(job.training.precision);
  s.a = accumulate_bytes(job.training.precision);
  s.mixed = s.a != s.b;
  s.cpu = job.hardware.spec.is_cpu;
  s.qk_norm = model.qk_norm;
  s.saving = job.training.expert_saving;
  s.seq_len = static_cast<double>(job.training.seq_len);
  s.documents_apart = job.training.reset_attention_mask;
  const double alignment = s.cpu ? static_cast<double>(cpu_segment_rows(s.mixed)) : 8;
  s.received = pairs.received;
  s.R = pairs.gathered;
  s.exchanged = job.parallelism.expert > 1;
  s.own_experts = s.E / static_cast<double>(job.parallelism.expert);
  const double segments = std::min(s.R, s.own_experts);
  s.row_capacity = std::floor((s.R + segments * (alignment - 1)) / alignment) * alignment;
  // A segment's length modulo the alignment is close to uniform; on CUDA the whole capacity is allocated.
  s.rows = s.cpu ? s.R + std::min(s.T, s.own_experts) * (alignment - 1) / 2 : s.row_capacity;
  return s;
}

Sizes sizes(const Job& job, int64_t layer, int k) {
  const int64_t own_pairs = job.model.is_moe_layer(layer) ? own_tokens(job) * k : 0;
  return sizes(job, layer, k,
               {static_cast<double>(own_pairs), static_cast<double>(own_pairs * job.parallelism.expert_tensor)});
}

double rstd_bytes(const Sizes& s) { return s.T * s.a; }

// Queries and keys before their norm, and the norms' deviations.
double unnormed_bytes(const Sizes& s) {
  if (s.qk_norm == QkNorm::kNone) return 0;
  return s.N * s.M * s.b + (s.qk_norm == QkNorm::kPerHead ? s.N * (s.H + s.G) * s.a : 2 * s.N * s.a);
}

// Where a norm spans ranks, its tensors in the accumulate type: `count` of the queries' size, and sums over ranks.
double spanning_norm_temporaries(const Sizes& s, double count) {
  if (!s.split_tokens || s.qk_norm != QkNorm::kFull) return 0;
  return count * s.N * s.A * s.a + 2 * s.N * s.a;
}

double log_sum_exp_bytes(const Sizes& s) { return s.N * s.H * s.a; }

// As gather_tokens of train/ops/split_tokens.cpp: leaves the tokens of all ranks.
void gather_tokens(const Sizes& s, AllocationMeter& meter) {
  if (s.split_tokens) meter.allocate(s.gathered());
}

void free_gathered(const Sizes& s, AllocationMeter& meter) {
  if (s.split_tokens) meter.free(s.gathered());
}

// A product over a split dimension: leaves this rank's tokens of the sum over ranks. Gloo sums in a copy.
void sum_product(const Sizes& s, AllocationMeter& meter) {
  if (s.split_tokens) meter.allocate(s.gathered());
  meter.allocate(s.stream());
  if (s.split_tokens && s.cpu) meter.touch(s.gathered());
  free_gathered(s, meter);
}

double num_threads() { return std::max(1u, std::thread::hardware_concurrency()); }

// attends_by_kernel of train/ops/attention.cpp: no scratch, and nothing of a document by itself.
bool attends_by_kernel(const Sizes& s) {
  return s.cpu && s.a == 4 && s.h <= kMostKernelHeadDim && cpu_attention() == CpuProducts::kKernel;
}

// Tiles of LibTorch's CPU flash attention (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp).
struct AttentionTile {
  double queries, keys;
};
AttentionTile attention_tile(const Sizes& s) {
  return {std::min(s.seq_len, s.seq_len >= 768 ? 256.0 : s.seq_len >= 192 ? 64.0 : 32.0), std::min(s.seq_len, 512.0)};
}

// Its scratch: a tile of scores and of the result for each thread.
double attention_workspace(const Sizes& s) {
  if (!s.cpu || attends_by_kernel(s)) return 0;
  const AttentionTile tile = attention_tile(s);
  return num_threads() * tile.queries * (tile.keys + 2 + s.h) * s.a;
}

// by_kernel of train/ops/gemm.cpp.
bool by_kernel(const Sizes& s) { return s.cpu && s.mixed && cpu_bf16_products() == CpuProducts::kKernel; }

bool attends_by_document(const Sizes& s) { return s.documents_apart && !attends_by_kernel(s); }

// With documents kept apart, LibTorch keeps the result of each, and it is copied together.
double document_results(const Sizes& s) { return attends_by_document(s) ? s.N * s.A * s.b : 0; }

// What attention gives, before it is exchanged for that of this rank's tokens: kept beside it, but where it is put
// together from documents.
double exchanged_result(const Sizes& s) { return s.context > 1 && !attends_by_document(s) ? s.N * s.A * s.b : 0; }

// As train/ops/context_exchange.cpp, of a tensor that its caller gives up.
void exchange_heads(const Sizes& s, double bytes, AllocationMeter& meter) {
  if (s.context > 1) meter.touch(bytes);
}

// What cuDNN's flash attention sums in fp32 in the backward pass: gradients of queries, and a number for each row of
// scores (as in a memory snapshot of an H200). On the CPU for each thread a tile of scores and one of their gradients,
// in bf16 too where that is the type of the operands, and a number for each row.
double attention_backward_workspace(const Sizes& s) {
  if (!s.cpu) return s.mixed ? s.N * (s.A + s.H) * s.a : 0;
  const AttentionTile tile = attention_tile(s);
  const double narrow = s.mixed ? s.b : 0;
  return num_threads() * tile.queries * (2 * tile.keys * (s.a + narrow) + s.a);
}

// A weight's gradient, the sum over `rows` rows, before it is added in the wider type; and on CPUs where oneDNN forms
// the products its scratch, fitted to oneDNN 3.13 with AVX-512 over 64 to 768 inputs, 512 and 1,024 rows, one and two
// threads (within 0.5 %).
double weight_gradient_temporary(const Sizes& s, double outputs, double inputs, double rows) {
  if (!s.mixed || by_kernel(s)) return 0;
  const double scratch = (64 * rows + std::min(rows, 512.0) * std::max(inputs, 128.0)) * s.b + 212e3;
  return outputs * inputs * s.b + (s.cpu ? num_threads() * scratch : 0);
}

double attention_kept(const Sizes& s) {
  return 2 * s.stream() + rstd_bytes(s) + s.N * s.C * s.b + unnormed_bytes(s) + s.N * s.A * s.b + log_sum_exp_bytes(s) +
         document_results(s) + exchanged_result(s);
}

// What a dense or shared feed-forward keeps: gate and up, and each token's scale and row where it is gated.
double mlp_kept(const Sizes& s) { return s.N * (2 * s.W * s.b + (s.gated ? s.a + kIndexBytes : 0)); }

// Probabilities, log-sum-exp, counts and reported losses; weights and indices of the selected experts.
double router_fixed(const Sizes& s) { return s.T * s.E * s.a + s.T * s.a + s.E * kCountBytes + 2 * s.a; }
double router_selected(const Sizes& s) { return s.T * s.K * (s.a + kIndexBytes); }
// The order of the pairs that the experts work on, by expert.
double dispatch_kept(const Sizes& s) {
  return (s.own_experts + 1) * kCountBytes + 2 * s.row_capacity * kIndexBytes + s.R * kIndexBytes;
}
// Of the experts' rows, for their gradients: gate and up, and the gathered input and the activation beside them.
double kept_numbers_per_row(const Sizes& s) {
  return s.saving == ExpertSaving::kAll ? s.D + 3 * s.F : s.saving == ExpertSaving::kLean ? 2 * s.F : 0;
}
double experts_rows_kept(const Sizes& s) { return s.rows * kept_numbers_per_row(s) * s.b; }
// Where experts are split: the order of this rank's pairs by expert, hence by rank; the rows and weights on which its
// experts work.
double exchange_order(const Sizes& s) { return (s.E + 1) * kCountBytes + 3 * s.sent() * kIndexBytes; }
double worked_kept(const Sizes& s) { return s.worked_rows() + s.R * s.a; }
// From dispatch to combine.
double experts_kept(const Sizes& s) {
  return dispatch_kept(s) + experts_rows_kept(s) + (s.split() ? exchange_order(s) + worked_kept(s) : 0);
}
// The chunk buffers of the CPU path.
double experts_buffers(const Sizes& s, bool activations) {
  const double gate_up = s.saving == ExpertSaving::kRecompute ? 2 * s.F : 0;
  return static_cast<double>(kExpertChunkRows) * (s.D + (activations ? s.F : 0) + gate_up) * s.b;
}

double feed_forward_kept(const Sizes& s, bool moe) {
  double bytes = 2 * s.stream() + rstd_bytes(s);  // normed input and the block's output
  if (s.W > 0) bytes += mlp_kept(s);
  if (moe) bytes += router_fixed(s) + router_selected(s) + experts_kept(s);
  return bytes;
}

enum class Keep { kAll, kNothing };

// As forward_cuda of train/ops/experts.cpp: the rows gathered, activated, and out of the down projection.
void experts_forward_cuda(const Sizes& s, double rows, AllocationMeter& meter) {
  const double wide = s.row_capacity * s.D * s.b, narrow = s.row_capacity * s.F * s.b;
  const bool all = s.saving == ExpertSaving::kAll;
  const MemoryCause again = s.saving == ExpertSaving::kRecompute ? MemoryCause::kWorkspace : MemoryCause::kActivations;
  const MemoryCause inner = all ? MemoryCause::kActivations : MemoryCause::kWorkspace;
  meter.allocate(wide, inner);
  meter.allocate(2 * narrow, again);
  if (!all) meter.free(wide, inner);
  meter.allocate(narrow, inner);
  if (s.saving == ExpertSaving::kRecompute) meter.free(2 * narrow, again);
  meter.allocate(wide, MemoryCause::kWorkspace);
  if (!all) meter.free(narrow, inner);
  meter.allocate(rows * s.D * s.b);
  meter.free(wide, MemoryCause::kWorkspace);
}

void experts_forward_cpu(const Sizes& s, double rows, AllocationMeter& meter) {
  const double buffers = experts_buffers(s, /*activations=*/s.saving != ExpertSaving::kAll);
  meter.allocate(experts_rows_kept(s));
  meter.allocate(buffers, MemoryCause::kWorkspace);
  meter.allocate(rows * s.D * s.a);
  meter.free(buffers, MemoryCause::kWorkspace);
  if (s.mixed) {
    meter.allocate(rows * s.D * s.b);
    meter.free(rows * s.D * s.a);
  }
}

// Experts on this rank, from sorted pairs to their sum over `rows` tokens: leaves that, and what experts_kept says.
void own_experts_forward(const Sizes& s, double rows, AllocationMeter& meter) {
  meter.allocate(dispatch_kept(s));
  s.cpu ? experts_forward_cpu(s, rows, meter) : experts_forward_cuda(s, rows, meter);
}

// As Exchange::to_experts of train/ops/expert_exchange.cpp, of rows of so many bytes: leaves those on which the experts
// work beside the ones that were sent.
void to_experts(const Sizes& s, double row, AllocationMeter& meter) {
  if (s.exchanged) meter.allocate(s.received * row);
  if (s.parts == 1) return;
  meter.allocate(s.parts * s.received * row);
  if (s.exchanged) meter.free(s.received * row);
  meter.allocate(s.R * row);
  meter.free(s.parts * s.received * row);
}

// As Exchange::from_experts: leaves the sums back where the tokens are, and the partial ones only where the caller
// keeps them.
enum class Partial { kKept, kFreed };
void from_experts(const Sizes& s, double row, Partial partial, AllocationMeter& meter) {
  if (s.parts > 1) {
    meter.allocate(s.parts * s.received * row);
    if (partial == Partial::kFreed) meter.free(s.R * row);
    meter.allocate(s.received * row);
    meter.free(s.parts * s.received * row);
  }
  if (!s.exchanged) return;
  meter.allocate(s.sent() * row);
  if (s.parts > 1 || partial == Partial::kFreed) meter.free(s.received * row);
}

// As train/ops/expert_exchange.cpp. Leaves the block's output.
void split_experts_forward(const Sizes& s, AllocationMeter& meter) {
  const double to_send = s.sent_rows() + s.sent() * s.a, expert_of_row = s.R * kIndexBytes;
  meter.allocate(exchange_order(s));
  meter.touch((2 + s.parts) * s.E * kCountBytes + expert_of_row);
  meter.allocate(expert_of_row);
  meter.allocate(to_send);
  to_experts(s, s.D * s.b, meter);
  to_experts(s, s.a, meter);
  meter.free(to_send);
  meter.allocate(s.worked_rows());  // zeros, to which the experts add
  own_experts_forward(s, s.R, meter);
  meter.free(s.worked_rows());
  from_experts(s, s.D * s.b, Partial::kKept, meter);
  meter.allocate(s.stream());
  meter.free(s.sent_rows() + s.worked_rows() + expert_of_row);
}

// As backward_cuda of train/ops/experts.cpp; a grouped product makes the gradients of all experts' weights at once.
void experts_backward_cuda(const Sizes& s, double rows, AllocationMeter& meter) {
  const double wide = s.row_capacity * s.D * s.b, narrow = s.row_capacity * s.F * s.b;
  const double down_weights = s.own_experts * s.F * s.D * s.b;
  const double again = s.saving == ExpertSaving::kRecompute ? 2 * narrow : 0;
  meter.allocate(wide + again + narrow, MemoryCause::kWorkspace);
  if (s.saving == ExpertSaving::kAll) meter.free(narrow, MemoryCause::kWorkspace);
  meter.touch(down_weights);
  if (s.saving != ExpertSaving::kAll) meter.free(narrow, MemoryCause::kWorkspace);
  meter.touch(2 * down_weights);
  meter.allocate(wide, MemoryCause::kWorkspace);
  meter.allocate(rows * s.D * s.b);
  meter.free(2 * wide + again, MemoryCause::kWorkspace);
}

void experts_backward_cpu(const Sizes& s, double rows, AllocationMeter& meter) {
  const double buffers = experts_buffers(s, /*activations=*/true);
  meter.allocate(buffers, MemoryCause::kWorkspace);
  meter.allocate(rows * s.D * s.a);
  meter.touch(weight_gradient_temporary(s, 2 * s.F, s.D, std::min(s.R, static_cast<double>(kExpertChunkRows))));
  if (s.mixed) {
    meter.allocate(rows * s.D * s.b);
    meter.free(rows * s.D * s.a);
  }
  meter.free(buffers, MemoryCause::kWorkspace);
}

// With the gradient of the sum over `rows` tokens live; leaves beside it those of the rows and of the weights.
void own_experts_backward(const Sizes& s, double rows, AllocationMeter& meter) {
  meter.allocate(s.R * s.a);
  s.cpu ? experts_backward_cpu(s, rows, meter) : experts_backward_cuda(s, rows, meter);
  meter.free(dispatch_kept(s) + experts_rows_kept(s));
}

void split_experts_backward(const Sizes& s, AllocationMeter& meter) {
  meter.allocate(s.sent_rows());
  to_experts(s, s.D * s.b, meter);
  meter.free(s.sent_rows());
  own_experts_backward(s, s.R, meter);
  meter.free(worked_kept(s) + s.worked_rows());
  from_experts(s, s.D * s.b, Partial::kFreed, meter);
  from_experts(s, s.a, Partial::kFreed, meter);
  meter.allocate(s.sent() * s.a);
  meter.allocate(s.stream());
  meter.free(s.sent_rows() + s.sent() * s.a + exchange_order(s));
}

// From the block's input on; leaves the block's output live, and what the backward pass needs.
void attention_forward(const Sizes& s, Keep keep, AllocationMeter& meter) {
  meter.allocate(s.stream() + rstd_bytes(s));
  gather_tokens(s, meter);
  meter.allocate(s.N * s.C * s.b);
  free_gathered(s, meter);
  meter.allocate(unnormed_bytes(s));
  meter.touch(spanning_norm_temporaries(s, s.mixed ? 2 : 1));
  exchange_heads(s, s.N * s.C * s.b, meter);
  if (keep == Keep::kNothing) meter.free(rstd_bytes(s) + unnormed_bytes(s));
  meter.allocate(s.N * s.A * s.b + log_sum_exp_bytes(s) + document_results(s));
  meter.touch(attention_workspace(s));
  if (keep == Keep::kNothing) meter.free(log_sum_exp_bytes(s) + document_results(s));
  if (s.context > 1) {
    meter.allocate(s.N * s.A * s.b);
    exchange_heads(s, s.N * s.A * s.b, meter);
  }
  sum_product(s, meter);
  if (s.context > 1 && (keep == Keep::kNothing || attends_by_document(s))) meter.free(s.N * s.A * s.b);
  if (keep == Keep::kNothing) meter.free(s.stream() + s.N * (s.C + s.A) * s.b);
}

void feed_forward_forward(const Sizes& s, bool moe, Keep keep, AllocationMeter& meter) {
  meter.allocate(s.stream() + rstd_bytes(s));
  if (keep == Keep::kNothing) meter.free(rstd_bytes(s));
  if (s.W > 0) {
    gather_tokens(s, meter);
    meter.allocate(mlp_kept(s));
    free_gathered(s, meter);
    meter.allocate(s.N * s.W * s.b);
    sum_product(s, meter);
    meter.free(s.N * s.W * s.b);
    if (keep == Keep::kNothing) meter.free(mlp_kept(s));
    if (!moe) {
      if (keep == Keep::kNothing) meter.free(s.stream());
      return;
    }
  }
  if (s.mixed) meter.allocate(s.wide_stream());
  meter.allocate(s.T * s.E * s.a);
  if (s.mixed) meter.free(s.wide_stream());
  meter.allocate(router_fixed(s) - s.T * s.E * s.a + router_selected(s));
  if (keep == Keep::kNothing) meter.free(s.T * s.E * s.a + s.T * s.a);
  s.split() ? split_experts_forward(s, meter) : own_experts_forward(s, s.T, meter);
  if (s.W > 0) meter.free(s.stream());  // the shared expert's sum, which nobody keeps
  if (keep == Keep::kNothing) {
    meter.free(s.stream() + router_selected(s) + s.E * kCountBytes + 2 * s.a + experts_kept(s));
    meter.allocate(s.E * kCountBytes + 2 * s.a);  // the report stays
  }
}

// With the gradient of the block's output live and the block's output itself freed; leaves the gradient of its input.
void feed_forward_backward(const Sizes& s, bool moe, AllocationMeter& meter) {
  if (moe) {
    s.split() ? split_experts_backward(s, meter) : own_experts_backward(s, s.T, meter);
    if (s.mixed) {
      meter.touch(s.wide_stream());
    }
    meter.free(router_fixed(s) + router_selected(s) + s.T * s.K * s.a);
  }
  if (s.W > 0) {
    const double own = s.N * (s.W * s.b + (s.gated ? s.a : 0));  // gradients of the activation and of the scale
    gather_tokens(s, meter);
    meter.allocate(own);
    meter.touch(weight_gradient_temporary(s, s.D, s.W, s.N));
    free_gathered(s, meter);
    gather_tokens(s, meter);
    meter.touch(weight_gradient_temporary(s, 2 * s.W, s.D, s.N));
    free_gathered(s, meter);
    if (!moe || s.split_tokens) sum_product(s, meter);
    if (moe && s.split_tokens) meter.free(s.stream());  // added to the gradient that the router left
    meter.free(own + mlp_kept(s));
  }
  meter.free(2 * s.stream() + rstd_bytes(s));  // normed input, its gradient
}

// The block's output is gone, or a matter of the caller.
void attention_backward(const Sizes& s, AllocationMeter& meter) {
  gather_tokens(s, meter);
  meter.touch(weight_gradient_temporary(s, s.D, s.A, s.N));
  meter.allocate(s.N * s.A * s.b);
  exchange_heads(s, s.N * s.A * s.b, meter);
  free_gathered(s, meter);
  meter.free(exchanged_result(s));
  if (attends_by_kernel(s)) {
    meter.allocate(s.N * s.C * s.b);  // fused
    meter.free(s.N * (s.C + 2 * s.A) * s.b + log_sum_exp_bytes(s));
  } else if (s.documents_apart) {
    meter.free(s.N * s.A * s.b);      // the documents' results put together, which attention does not keep
    meter.allocate(s.N * s.C * s.b);  // fused
    // Gradients of queries, keys and values of one document, which is at most a sequence long.
    meter.touch(s.seq_len * s.C / s.context * s.b + attention_backward_workspace(s));
    meter.free(document_results(s) + log_sum_exp_bytes(s));
    meter.free(s.N * s.C * s.b + s.N * s.A * s.b);
  } else {
    meter.allocate(s.N * s.C * s.b);  // gradients of queries, keys and values
    meter.touch(attention_backward_workspace(s));
    meter.free(s.N * s.A * s.b + log_sum_exp_bytes(s));
    meter.allocate(s.N * s.C * s.b);  // fused
    meter.free(s.N * 2 * s.C * s.b + s.N * s.A * s.b);
  }
  // The engine holds the gradient that comes in, which the exchange makes another of.
  const double incoming = s.context > 1 ? s.N * s.C * s.b : 0;
  meter.allocate(incoming);
  exchange_heads(s, s.N * s.C * s.b, meter);
  meter.touch(spanning_norm_temporaries(s, 2));
  gather_tokens(s, meter);
  meter.touch(weight_gradient_temporary(s, s.C, s.D, s.N));
  free_gathered(s, meter);
  sum_product(s, meter);
  meter.free(incoming + s.N * s.C * s.b + s.stream() + unnormed_bytes(s));
  meter.free(s.stream() + rstd_bytes(s));
}

BytesByCause above(const AllocationMeter& meter, double base) {
  BytesByCause peak = meter.peak();
  peak[static_cast<int>(MemoryCause::kActivations)] -= base;
  return peak;
}

LayerMemory memory_of(const Job& job, int64_t layer, const Sizes& s) {
  const bool moe = job.model.is_moe_layer(layer);
  const Recompute& recompute = job.training.recompute;
  const bool again_attention = recompute.full || recompute.has("attention");
  const bool again_feed_forward = recompute.full || recompute.has("moe");
  const double report = moe ? s.E * kCountBytes + 2 * s.a : 0;
  LayerMemory memory;

  AllocationMeter forward;
  attention_forward(s, again_attention ? Keep::kNothing : Keep::kAll, forward);
  memory.kept_attention = recompute.full ? 0 : again_attention ? s.stream() : attention_kept(s);
  feed_forward_forward(s, moe, again_feed_forward ? Keep::kNothing : Keep::kAll, forward);
  memory.kept = memory.kept_attention + (again_feed_forward ? s.stream() + report : feed_forward_kept(s, moe));
  memory.forward_peak = forward.peak();

  // In the backward pass the layer's output is gone (its consumer has run), its gradient is there.
  AllocationMeter backward;
  if (recompute.full) {
    backward.allocate(s.stream() + report);
    attention_forward(s, Keep::kAll, backward);
    feed_forward_forward(s, moe, Keep::kAll, backward);
    feed_forward_backward(s, moe, backward);
    backward.free(s.stream());  // the attention block's output, kept by the next norm until now
    attention_backward(s, backward);
  } else {
    backward.allocate(memory.kept);
    if (again_feed_forward) feed_forward_forward(s, moe, Keep::kAll, backward);
    feed_forward_backward(s, moe, backward);
    backward.free(s.stream());  // the attention block's output, kept by the next norm until now
    if (again_attention) attention_forward(s, Keep::kAll, backward);  // its second output stays until it is through
    attention_backward(s, backward);
  }
  memory.backward_peak = above(backward, 0);
  return memory;
}

}  // namespace

double compute_bytes(Precision precision) {
  return precision == Precision::kFp64                                    ? 8
         : precision == Precision::kFp32                                  ? 4
         : precision == Precision::kBf16 || precision == Precision::kFp16 ? 2
                                                                          : 1;
}

double accumulate_bytes(Precision precision) { return precision == Precision::kFp64 ? 8 : 4; }

int64_t own_tokens(const Job& job) {
  return job.training.micro_batch_tokens() / (job.parallelism.tensor * job.parallelism.context);
}

double residual_bytes(const Job& job) { return sizes(job, 0, 0).stream(); }

double kept_bytes_per_k(const Job& job) {
  if (job.model.num_moe_layers() == 0 || job.training.recompute.full || job.training.recompute.has("moe")) return 0;
  const Sizes s = sizes(job, job.model.num_dense_layers, 1);
  return s.T * (s.a + kIndexBytes) + s.T * (3 * kIndexBytes + kept_numbers_per_row(s) * s.b);
}

LayerMemory layer_memory(const Job& job, int64_t layer, int k) { return memory_of(job, layer, sizes(job, layer, k)); }

LayerMemory layer_memory(const Job& job, int64_t layer, int k, RoutedPairs pairs) {
  return memory_of(job, layer, sizes(job, layer, k, pairs));
}

BytesByCause loss_head_peak(const Job& job) {
  const Sizes s = sizes(job, 0, 0);
  const auto vocab = static_cast<double>(job.model.vocab_size);
  const auto chunk = static_cast<double>(loss_chunk_rows(static_cast<int64_t>(s.T), job.model.vocab_size));
  BytesByCause bytes{};
  bytes[static_cast<int>(MemoryCause::kActivations)] = 2 * s.stream() + 2 * rstd_bytes(s);
  bytes[static_cast<int>(MemoryCause::kLogits)] = chunk * vocab * s.b;
  bytes[static_cast<int>(MemoryCause::kWorkspace)] = weight_gradient_temporary(s, vocab, s.D, chunk);
  return bytes;
}

}  // namespace mmoe
