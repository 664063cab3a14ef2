#include "kernels/bench/operations.h"

#include <cstring>
#include <memory>
#include <random>

#include "kernels/combine/combine.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/dispatch/dispatch.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gather/gather.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/router/router.h"
#include "kernels/swiglu/swiglu.h"

namespace mmoe::kernels::bench {
namespace {

using Memory = std::shared_ptr<std::vector<unsigned char>>;

// Normal draws of spread 1, repeated from one block: bandwidth does not depend on the values.
Memory numbers(Scalar scalar, int64_t count) {
  constexpr int64_t kBlock = 4096;
  auto memory = std::make_shared<std::vector<unsigned char>>(static_cast<size_t>(count) * size_of(scalar));
  std::mt19937_64 generator(1);
  std::normal_distribution<double> law;
  visit_scalar(scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* data = reinterpret_cast<T*>(memory->data());
    for (int64_t i = 0; i < count; ++i) {
      data[i] = i < kBlock ? store<T>(static_cast<Accumulate<T>>(law(generator))) : data[i - kBlock];
    }
  });
  return memory;
}

template <class T>
std::shared_ptr<std::vector<T>> integers(int64_t count, T below = 1) {
  auto result = std::make_shared<std::vector<T>>(static_cast<size_t>(count));
  std::mt19937_64 generator(2);
  for (T& value : *result) value = static_cast<T>(generator() % static_cast<uint64_t>(below));
  return result;
}

// What routing leaves: the pairs of the layer sorted by expert.
struct Routed {
  std::shared_ptr<std::vector<int32_t>> indices, token_of_row, pair_of_row, row_of_pair;
  std::shared_ptr<std::vector<int64_t>> counts, offsets;
  Dispatch args;
};

Routed route(const LayerSize& s) {
  const int64_t pairs = s.num_tokens * s.top_k;
  Routed routed{integers<int32_t>(pairs, static_cast<int32_t>(s.num_experts)),
                integers<int32_t>(pairs),
                integers<int32_t>(pairs),
                integers<int32_t>(pairs),
                integers<int64_t>(s.num_experts),
                integers<int64_t>(s.num_experts + 1),
                {}};
  routed.args = {.indices = routed.indices->data(),
                 .counts = routed.counts->data(),
                 .expert_offsets = routed.offsets->data(),
                 .token_of_row = routed.token_of_row->data(),
                 .pair_of_row = routed.pair_of_row->data(),
                 .row_of_pair = routed.row_of_pair->data(),
                 .num_tokens = s.num_tokens,
                 .top_k = s.top_k,
                 .num_experts = s.num_experts,
                 .row_capacity = pairs};
  dispatch_cpu(routed.args);
  return routed;
}

void add_attention_operations(std::vector<Operation>& all, Scalar scalar, const LayerSize& s) {
  const int64_t T = s.num_tokens, D = s.hidden_size;
  const double element = static_cast<double>(size_of(scalar)), activation = element * static_cast<double>(T * D);
  const Scalar wide = accumulate(scalar);
  const Memory x = numbers(scalar, T * D), weight = numbers(scalar, D), y = numbers(scalar, T * D);
  const Memory rstd = numbers(wide, T), dx = numbers(scalar, T * D), d_weight = numbers(wide, D);
  all.push_back({"rms_norm_forward", 2 * activation, [=] {
                   rms_norm_forward_cpu({.scalar = scalar,
                                         .x = x->data(),
                                         .weight = weight->data(),
                                         .y = y->data(),
                                         .rstd = rstd->data(),
                                         .num_vectors = T,
                                         .size = D,
                                         .x_stride = D,
                                         .y_stride = D});
                 }});
  all.push_back({"rms_norm_backward", 4 * activation, [=] {
                   rms_norm_backward_cpu({.scalar = scalar,
                                          .dy = y->data(),
                                          .x = x->data(),
                                          .weight = weight->data(),
                                          .rstd = rstd->data(),
                                          .d_residual = x->data(),
                                          .dx = dx->data(),
                                          .d_weight = d_weight->data(),
                                          .num_vectors = T,
                                          .size = D,
                                          .dy_stride = D,
                                          .x_stride = D,
                                          .dx_stride = D});
                 }});
  const int64_t heads = s.num_heads + 2 * s.num_kv_heads, rotated = s.num_heads + s.num_kv_heads;
  const Memory qkv = numbers(scalar, T * heads * s.head_dim);
  const Memory cos = numbers(wide, s.seq_len * s.head_dim / 2), sin = numbers(wide, s.seq_len * s.head_dim / 2);
  rope_fill_table(scalar, 10000, s.seq_len, s.head_dim, cos->data(), sin->data());
  all.push_back({"rope", 2 * element * static_cast<double>(T * rotated * s.head_dim), [=] {
                   rope_cpu({.scalar = scalar,
                             .x = qkv->data(),
                             .cos = cos->data(),
                             .sin = sin->data(),
                             .num_rows = T,
                             .num_heads = heads,
                             .num_rotated_heads = rotated,
                             .head_dim = s.head_dim,
                             .seq_len = s.seq_len});
                 }});
}

void add_router_operations(std::vector<Operation>& all, Scalar scalar, const LayerSize& s) {
  const int64_t T = s.num_tokens, E = s.num_experts, K = s.top_k;
  const Scalar wide = accumulate(scalar);
  const Memory logits = numbers(wide, T * E), p = numbers(wide, T * E), weights = numbers(wide, T * K);
  const Memory log_sum_exp = numbers(wide, T), mean = numbers(wide, E), losses = numbers(wide, 2);
  const Memory d_weights = numbers(wide, T * K), d_logits = numbers(wide, T * E);
  const auto indices = integers<int32_t>(T * K);
  const auto counts = integers<int64_t>(E);
  const double pair = static_cast<double>(size_of(wide) + sizeof(int32_t)) * static_cast<double>(T * K);
  const double matrix = static_cast<double>(size_of(wide)) * static_cast<double>(T * E);
  const auto forward = [=] {
    router_forward_cpu({.scalar = wide,
                        .logits = logits->data(),
                        .probabilities = p->data(),
                        .indices = indices->data(),
                        .weights = weights->data(),
                        .log_sum_exp = log_sum_exp->data(),
                        .counts = counts->data(),
                        .mean_probability = mean->data(),
                        .load_balance_loss = losses->data(),
                        .z_loss = losses->data() + size_of(wide),
                        .num_tokens = T,
                        .num_experts = E,
                        .top_k = K,
                        .normalization = GateNormalization::kSelected});
  };
  forward();
  all.push_back({"router_forward", 2 * matrix + pair, forward});
  all.push_back({"router_backward", 2 * matrix + 2 * pair, [=] {
                   router_backward_cpu({.scalar = wide,
                                        .probabilities = p->data(),
                                        .indices = indices->data(),
                                        .weights = weights->data(),
                                        .log_sum_exp = log_sum_exp->data(),
                                        .counts = counts->data(),
                                        .d_weights = d_weights->data(),
                                        .d_logits = d_logits->data(),
                                        .num_tokens = T,
                                        .num_experts = E,
                                        .top_k = K,
                                        .normalization = GateNormalization::kSelected,
                                        .load_balance_coefficient = 0.01,
                                        .z_loss_coefficient = 0.001});
                 }});
}

void add_expert_operations(std::vector<Operation>& all, Scalar scalar, const LayerSize& s) {
  const int64_t T = s.num_tokens, D = s.hidden_size, F = s.expert_hidden_size, R = T * s.top_k;
  const double element = static_cast<double>(size_of(scalar));
  const Routed routed = route(s);
  // Reads the indices twice; writes the three maps.
  all.push_back({"dispatch", 5 * 4.0 * static_cast<double>(R), [=] { dispatch_cpu(routed.args); }});

  const Memory x = numbers(scalar, T * D), rows = numbers(scalar, R * D);
  all.push_back({"gather", element * static_cast<double>((T + R) * D), [=] {
                   gather_cpu({.scalar = scalar,
                               .x = x->data(),
                               .index = routed.token_of_row->data(),
                               .rows = rows->data(),
                               .num_rows = R,
                               .size = D});
                 }});
  all.push_back({"combine", element * static_cast<double>((R + 2 * T) * D), [=] {
                   combine_cpu({.scalar = scalar,
                                .rows = rows->data(),
                                .row_of_pair = routed.row_of_pair->data(),
                                .base = x->data(),
                                .out = x->data(),
                                .num_tokens = T,
                                .top_k = s.top_k,
                                .size = D});
                 }});
  const Memory gate_up = numbers(scalar, R * 2 * F), weights = numbers(accumulate(scalar), R);
  const Memory a = numbers(scalar, R * F), da = numbers(scalar, R * F), d_gate_up = numbers(scalar, R * 2 * F);
  const Memory d_weights = numbers(accumulate(scalar), R);
  all.push_back({"swiglu_forward", 3 * element * static_cast<double>(R * F), [=] {
                   swiglu_forward_cpu({.scalar = scalar,
                                       .gate_up = gate_up->data(),
                                       .weights = weights->data(),
                                       .pair_of_row = routed.pair_of_row->data(),
                                       .a = a->data(),
                                       .num_rows = R,
                                       .expert_hidden_size = F});
                 }});
  all.push_back({"swiglu_backward", 6 * element * static_cast<double>(R * F), [=] {
                   swiglu_backward_cpu({.scalar = scalar,
                                        .da = da->data(),
                                        .gate_up = gate_up->data(),
                                        .weights = weights->data(),
                                        .pair_of_row = routed.pair_of_row->data(),
                                        .d_gate_up = d_gate_up->data(),
                                        .d_weights = d_weights->data(),
                                        .a = a->data(),
                                        .num_rows = R,
                                        .expert_hidden_size = F});
                 }});
}

void add_vocabulary_operations(std::vector<Operation>& all, Scalar scalar, const LayerSize& s) {
  const int64_t T = s.num_tokens / 8, V = s.vocab_size, D = s.hidden_size;  // a chunk of the tokens, as in training
  const double element = static_cast<double>(size_of(scalar));
  const Scalar wide = accumulate(scalar);
  const Memory logits = numbers(scalar, T * V), loss = numbers(wide, T);
  const auto targets = integers<int32_t>(T, static_cast<int32_t>(V));
  all.push_back({"cross_entropy", 2 * element * static_cast<double>(T * V), [=] {
                   cross_entropy_cpu({.scalar = scalar,
                                      .logits = logits->data(),
                                      .targets = targets->data(),
                                      .loss = loss->data(),
                                      .num_rows = T,
                                      .vocab_size = V,
                                      .stride = V});
                 }});
  const Memory dx = numbers(scalar, s.num_tokens * D), d_weight = numbers(wide, V * D);
  const auto tokens = integers<int32_t>(s.num_tokens, static_cast<int32_t>(V));
  const double bytes = (element + 2 * static_cast<double>(size_of(wide))) * static_cast<double>(s.num_tokens * D);
  all.push_back({"embedding_backward", bytes, [=, tokens_of_text = s.num_tokens] {
                   embedding_backward_cpu({.scalar = scalar,
                                           .dx = dx->data(),
                                           .tokens = tokens->data(),
                                           .d_weight = d_weight->data(),
                                           .num_tokens = tokens_of_text,
                                           .vocab_size = V,
                                           .size = D});
                 }});
}

}  // namespace

std::vector<Operation> layer_operations(Scalar scalar, const LayerSize& size) {
  std::vector<Operation> all;
  add_attention_operations(all, scalar, size);
  add_router_operations(all, scalar, size);
  add_expert_operations(all, scalar, size);
  add_vocabulary_operations(all, scalar, size);
  return all;
}

}  // namespace mmoe::kernels::bench
