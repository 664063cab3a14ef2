#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/router/router.h"

namespace mmoe::kernels {
namespace {

// The indices of the `count` largest of E values, in descending order, of equal ones the lower index first.
template <class A>
std::vector<int32_t> largest(const A* values, int64_t num_experts, int64_t count) {
  std::vector<int32_t> order;
  std::vector<bool> taken(static_cast<size_t>(num_experts), false);
  for (int64_t j = 0; j < count; ++j) {
    int64_t best = -1;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (!taken[static_cast<size_t>(e)] && (best < 0 || values[e] > values[best])) best = e;
    }
    taken[static_cast<size_t>(best)] = true;
    order.push_back(static_cast<int32_t>(best));
  }
  return order;
}

// The experts in the sum of the k_reference largest p: the selected ones in their order, then the largest others.
template <class A>
std::vector<int32_t> selected_first(const A* p, const int32_t* indices, int64_t num_experts, int64_t top_k,
                                    int64_t k_reference) {
  std::vector<A> others(p, p + num_experts);
  std::vector<int32_t> order;
  for (int64_t j = 0; j < top_k && indices[j] >= 0; ++j) {
    order.push_back(indices[j]);
    others[static_cast<size_t>(indices[j])] = -1;
  }
  for (const int32_t e : largest(others.data(), num_experts, num_experts)) order.push_back(e);
  order.resize(static_cast<size_t>(k_reference));
  return order;
}

template <class A>
void forward(const RouterForward& a) {
  const int64_t T = a.num_tokens, E = a.num_experts, K = a.top_k;
  A* mean_probability = static_cast<A*>(a.mean_probability);
  std::fill(a.counts, a.counts + E, 0);
  std::fill(mean_probability, mean_probability + E, A{0});
  A z_sum = 0;
  for (int64_t t = 0; t < T; ++t) {
    const A* logits = static_cast<const A*>(a.logits) + t * E;
    A* p = static_cast<A*>(a.probabilities) + t * E;
    const A maximum = *std::max_element(logits, logits + E);
    A sum = 0;
    for (int64_t e = 0; e < E; ++e) sum += std::exp(logits[e] - maximum);
    std::vector<int32_t> order =
        largest(logits, E, a.normalization == GateNormalization::kReference ? std::max(K, a.k_reference) : K);
    if (std::isnan(sum)) std::iota(order.begin(), order.end(), 0);
    for (int64_t e = 0; e < E; ++e) p[e] = std::exp(logits[e] - maximum) / sum;
    const A log_sum_exp = maximum + std::log(sum);
    static_cast<A*>(a.log_sum_exp)[t] = log_sum_exp;
    z_sum += log_sum_exp * log_sum_exp;

    int64_t selected = a.top_p > 0 ? 0 : K;
    for (A cumulative = 0; selected < K && !(cumulative >= static_cast<A>(a.top_p)); ++selected) {
      cumulative += p[order[static_cast<size_t>(selected)]];
    }
    A norm = 0;
    const int64_t in_norm = a.normalization == GateNormalization::kReference ? a.k_reference : selected;
    for (int64_t j = 0; j < in_norm; ++j) norm += p[order[static_cast<size_t>(j)]];
    if (a.normalization == GateNormalization::kNone) norm = 1;
    for (int64_t j = 0; j < K; ++j) {
      const int32_t e = order[static_cast<size_t>(j)];
      a.indices[t * K + j] = j < selected ? e : -1;
      static_cast<A*>(a.weights)[t * K + j] = j < selected ? p[e] / norm : 0;
      if (j < selected) ++a.counts[e];
    }
    if (a.num_selected != nullptr) a.num_selected[t] = static_cast<int32_t>(selected);
    for (int64_t e = 0; e < E; ++e) mean_probability[e] += p[e];
  }
  int64_t pairs = 0;
  for (int64_t e = 0; e < E; ++e) pairs += a.counts[e];
  A balance = 0;
  for (int64_t e = 0; e < E; ++e) {
    if (T > 0) mean_probability[e] /= static_cast<A>(T);
    if (pairs > 0) balance += static_cast<A>(a.counts[e]) / static_cast<A>(pairs) * mean_probability[e];
  }
  *static_cast<A*>(a.load_balance_loss) = static_cast<A>(E) * balance;
  *static_cast<A*>(a.z_loss) = T > 0 ? z_sum / static_cast<A>(T) : 0;
}

template <class A>
void backward(const RouterBackward& a) {
  const int64_t T = a.num_tokens, E = a.num_experts, K = a.top_k;
  const A N = static_cast<A>(a.num_tokens_in_mean > 0 ? a.num_tokens_in_mean : T);
  int64_t pairs = 0;
  for (int64_t e = 0; e < E; ++e) pairs += a.counts[e];
  std::vector<A> d_p(static_cast<size_t>(E));
  for (int64_t t = 0; t < T; ++t) {
    const A* p = static_cast<const A*>(a.probabilities) + t * E;
    const A* w = static_cast<const A*>(a.weights) + t * K;
    const A* dw = static_cast<const A*>(a.d_weights) + t * K;
    const int32_t* indices = a.indices + t * K;
    A* d_logits = static_cast<A*>(a.d_logits) + t * E;
    for (int64_t e = 0; e < E; ++e) {
      const A f = pairs > 0 ? static_cast<A>(a.counts[e]) / static_cast<A>(pairs) : 0;
      d_p[static_cast<size_t>(e)] = static_cast<A>(a.load_balance_coefficient) * static_cast<A>(E) * f / N;
    }
    // w_j = p_j / norm: d p_j = d w_j / norm, and each p in the norm gets -(sum over j of d w_j w_j) / norm.
    std::vector<int32_t> in_norm;
    if (a.normalization == GateNormalization::kReference) in_norm = selected_first(p, indices, E, K, a.k_reference);
    if (a.normalization == GateNormalization::kSelected) {
      for (int64_t j = 0; j < K; ++j) {
        if (indices[j] >= 0) in_norm.push_back(indices[j]);
      }
    }
    A norm = in_norm.empty() ? 1 : 0, dot = 0;
    for (const int32_t e : in_norm) norm += p[e];
    for (int64_t j = 0; j < K; ++j) {
      if (indices[j] < 0) continue;
      dot += dw[j] * w[j];
      d_p[static_cast<size_t>(indices[j])] += dw[j] / norm;
    }
    for (const int32_t e : in_norm) d_p[static_cast<size_t>(e)] -= dot / norm;

    A inner = 0;
    for (int64_t e = 0; e < E; ++e) inner += p[e] * d_p[static_cast<size_t>(e)];
    const A z = static_cast<A>(a.z_loss_coefficient) * 2 / N * static_cast<const A*>(a.log_sum_exp)[t];
    for (int64_t e = 0; e < E; ++e) d_logits[e] = p[e] * (d_p[static_cast<size_t>(e)] - inner + z);
  }
}

}  // namespace

void router_forward_reference(const RouterForward& args) {
  visit_accumulate(args.scalar, [&](auto tag) { forward<typename decltype(tag)::type>(args); });
}

void router_backward_reference(const RouterBackward& args) {
  visit_accumulate(args.scalar, [&](auto tag) { backward<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
