#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parallel/parallel.h"
#include "kernels/router/router.h"
#include "kernels/simd/simd.h"
#include "kernels/workspace/workspace.h"

namespace mmoe::kernels {
namespace {

// The statistics are summed over fixed ranges of tokens, then over the ranges, so that threads do not show.
constexpr int64_t kMaxRanges = 32;

int64_t num_ranges(int64_t num_tokens) { return std::clamp<int64_t>(num_tokens / 64, 1, kMaxRanges); }

// Takes the largest of `values` (the lowest index of equal ones) by setting it to -inf; -1 if none is above -inf.
template <class A>
MMOE_ALWAYS_INLINE int32_t take_largest(A* values, int32_t size) {
  constexpr A kLowest = -std::numeric_limits<A>::infinity();
  A best = kLowest;
#pragma omp simd reduction(max : best)
  for (int32_t e = 0; e < size; ++e) best = values[e] > best ? values[e] : best;
  if (best == kLowest) return -1;
  int32_t index = size;
#pragma omp simd reduction(min : index)
  for (int32_t e = 0; e < size; ++e) {
    const int32_t candidate = values[e] == best ? e : size;
    index = candidate < index ? candidate : index;
  }
  values[index] = kLowest;
  return index;
}

// The lowest expert that is not among the first `count` of `order`.
MMOE_ALWAYS_INLINE int32_t lowest_free(const int32_t* order, int64_t count) {
  int32_t e = 0;
  while (std::find(order, order + count, e) != order + count) ++e;
  return e;
}

// RouterForward for one range of tokens, with its sums.
struct ForwardRange {
  const RouterForward& args;
  int64_t* counts;    // [E]
  void* probability;  // [E] accumulate: sums over the range
  void* z_sum;        // [1] accumulate
};

template <class A>
MMOE_ALWAYS_INLINE void forward(const ForwardRange& range, int64_t begin, int64_t end) {
  const RouterForward& a = range.args;
  const int32_t E = static_cast<int32_t>(a.num_experts);
  const int64_t K = a.top_k;
  const bool by_reference = a.normalization == GateNormalization::kReference;
  const int64_t num_ordered = by_reference ? std::max(K, a.k_reference) : K;
  alignas(64) A values[kMaxExperts];
  int32_t order[kMaxTopK];
  A* probability_sum = static_cast<A*>(range.probability);
  A z_sum = 0;
  for (int64_t t = begin; t < end; ++t) {
    const A* logits = static_cast<const A*>(a.logits) + t * E;
    A* p = static_cast<A*>(a.probabilities) + t * E;
    A maximum = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : maximum)
    for (int32_t e = 0; e < E; ++e) {
      values[e] = logits[e];
      maximum = logits[e] > maximum ? logits[e] : maximum;
    }
    A sum = 0;  // NaN for a row with NaN, with +inf, or all -inf
#pragma omp simd reduction(+ : sum)
    for (int32_t e = 0; e < E; ++e) {
      p[e] = fast_exp(values[e] - maximum);
      sum += p[e];
    }
    const A inverse = 1 / sum;
#pragma omp simd
    for (int32_t e = 0; e < E; ++e) {
      p[e] *= inverse;
      probability_sum[e] += p[e];
    }
    const A log_sum_exp = maximum + std::log(sum);
    static_cast<A*>(a.log_sum_exp)[t] = log_sum_exp;
    z_sum += log_sum_exp * log_sum_exp;

    for (int64_t j = 0; j < num_ordered; ++j) {
      const int32_t e = sum == sum ? take_largest(values, E) : static_cast<int32_t>(j);
      order[j] = e >= 0 ? e : lowest_free(order, j);
    }
    int64_t selected = a.top_p > 0 ? 0 : K;
    for (A cumulative = 0; selected < K && !(cumulative >= static_cast<A>(a.top_p)); ++selected) {
      cumulative += p[order[selected]];
    }
    A norm = 0;
    const int64_t in_norm = by_reference ? a.k_reference : selected;
    for (int64_t j = 0; j < in_norm; ++j) norm += p[order[j]];
    if (a.normalization == GateNormalization::kNone) norm = 1;
    A* weights = static_cast<A*>(a.weights) + t * K;
    int32_t* indices = a.indices + t * K;
    for (int64_t j = 0; j < selected; ++j) {
      indices[j] = order[j];
      weights[j] = p[order[j]] / norm;
      ++range.counts[order[j]];
    }
    std::fill(indices + selected, indices + K, -1);
    std::fill(weights + selected, weights + K, A{0});
    if (a.num_selected != nullptr) a.num_selected[t] = static_cast<int32_t>(selected);
  }
  *static_cast<A*>(range.z_sum) = z_sum;
}
MMOE_SIMD_ACCUMULATE_FUNCTION(forward_tokens, forward, ForwardRange)

template <class A>
MMOE_ALWAYS_INLINE void backward(const RouterBackward& a, int64_t begin, int64_t end) {
  const int32_t E = static_cast<int32_t>(a.num_experts);
  const int64_t K = a.top_k;
  const A N = static_cast<A>(a.num_tokens_in_mean > 0 ? a.num_tokens_in_mean : a.num_tokens);
  alignas(64) A balance[kMaxExperts], d_p[kMaxExperts], others[kMaxExperts];
  int32_t in_norm[kMaxTopK];
  int64_t pairs = 0;
  for (int32_t e = 0; e < E; ++e) pairs += a.counts[e];
  const A balance_factor = static_cast<A>(a.load_balance_coefficient) * static_cast<A>(E) / N;
  for (int32_t e = 0; e < E; ++e) {
    balance[e] = pairs > 0 ? balance_factor * (static_cast<A>(a.counts[e]) / static_cast<A>(pairs)) : 0;
  }
  for (int64_t t = begin; t < end; ++t) {
    const A* p = static_cast<const A*>(a.probabilities) + t * E;
    const A* w = static_cast<const A*>(a.weights) + t * K;
    const A* dw = static_cast<const A*>(a.d_weights) + t * K;
    const int32_t* indices = a.indices + t * K;
    const int64_t selected = std::find_if(indices, indices + K, [](int32_t e) { return e < 0; }) - indices;
    std::copy(balance, balance + E, d_p);

    int64_t num_in_norm = 0;
    if (a.normalization == GateNormalization::kSelected) num_in_norm = selected;
    if (a.normalization == GateNormalization::kReference) num_in_norm = a.k_reference;
    std::copy(indices, indices + std::min(selected, num_in_norm), in_norm);
    if (num_in_norm > selected) {
      std::copy(p, p + E, others);
      for (int64_t j = 0; j < selected; ++j) others[indices[j]] = -std::numeric_limits<A>::infinity();
      for (int64_t j = selected; j < num_in_norm; ++j) in_norm[j] = std::max(take_largest(others, E), 0);
    }
    A norm = num_in_norm > 0 ? A{0} : A{1}, dot = 0;
    for (int64_t j = 0; j < num_in_norm; ++j) norm += p[in_norm[j]];
    for (int64_t j = 0; j < selected; ++j) {
      dot += dw[j] * w[j];
      d_p[indices[j]] += dw[j] / norm;
    }
    for (int64_t j = 0; j < num_in_norm; ++j) d_p[in_norm[j]] -= dot / norm;

    A inner = 0;
#pragma omp simd reduction(+ : inner)
    for (int32_t e = 0; e < E; ++e) inner += p[e] * d_p[e];
    const A z = static_cast<A>(a.z_loss_coefficient) * 2 / N * static_cast<const A*>(a.log_sum_exp)[t];
    const A shift = z - inner;
    A* d_logits = static_cast<A*>(a.d_logits) + t * E;
#pragma omp simd
    for (int32_t e = 0; e < E; ++e) d_logits[e] = p[e] * (d_p[e] + shift);
  }
}
MMOE_SIMD_ACCUMULATE_FUNCTION(backward_tokens, backward, RouterBackward)

// One range's slice of the workspace: counts [E], then probability sums [E] and the z sum.
size_t range_size(const RouterForward& a) {
  const size_t E = static_cast<size_t>(a.num_experts);
  return aligned_size(E * sizeof(int64_t) + (E + 1) * size_of(accumulate(a.scalar)));
}

ForwardRange range_at(const RouterForward& a, void* workspace, int64_t i) {
  char* start = static_cast<char*>(workspace) + static_cast<size_t>(i) * range_size(a);
  char* probability = start + static_cast<size_t>(a.num_experts) * sizeof(int64_t);
  void* z_sum = probability + static_cast<size_t>(a.num_experts) * size_of(accumulate(a.scalar));
  return ForwardRange{a, reinterpret_cast<int64_t*>(start), probability, z_sum};
}

// Adds up the ranges in order and forms the losses.
template <class A>
void finish(const RouterForward& a, void* workspace, int64_t ranges) {
  const int64_t E = a.num_experts;
  A* mean = static_cast<A*>(a.mean_probability);
  std::fill(a.counts, a.counts + E, 0);
  std::fill(mean, mean + E, A{0});
  A z_sum = 0;
  for (int64_t i = 0; i < ranges; ++i) {
    const ForwardRange range = range_at(a, workspace, i);
    for (int64_t e = 0; e < E; ++e) {
      a.counts[e] += range.counts[e];
      mean[e] += static_cast<const A*>(range.probability)[e];
    }
    z_sum += *static_cast<const A*>(range.z_sum);
  }
  int64_t pairs = 0;
  for (int64_t e = 0; e < E; ++e) pairs += a.counts[e];
  const A num_tokens = static_cast<A>(std::max<int64_t>(a.num_tokens, 1));
  A balance = 0;
  for (int64_t e = 0; e < E; ++e) {
    mean[e] /= num_tokens;
    if (pairs > 0) balance += static_cast<A>(a.counts[e]) / static_cast<A>(pairs) * mean[e];
  }
  *static_cast<A*>(a.load_balance_loss) = static_cast<A>(E) * balance;
  *static_cast<A*>(a.z_loss) = z_sum / num_tokens;
}

}  // namespace

size_t router_forward_cpu_workspace_size(const RouterForward& args) {
  return static_cast<size_t>(num_ranges(args.num_tokens)) * range_size(args);
}

void router_forward_cpu(const RouterForward& args) {
  const int64_t ranges = num_ranges(args.num_tokens);
  const Workspace workspace(args.workspace, router_forward_cpu_workspace_size(args));
  parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const ForwardRange range = range_at(args, workspace.data(), i);
      std::memset(static_cast<void*>(range.counts), 0, range_size(args));
      forward_tokens(args.scalar, range, i * args.num_tokens / ranges, (i + 1) * args.num_tokens / ranges);
    }
  });
  visit_accumulate(args.scalar,
                   [&](auto tag) { finish<typename decltype(tag)::type>(args, workspace.data(), ranges); });
}

void router_backward_cpu(const RouterBackward& args) {
  constexpr int64_t kGrain = 64;  // tokens: sets the cost of the balance gradients, formed once a range
  parallel_for(0, args.num_tokens, kGrain,
               [&](int64_t begin, int64_t end) { backward_tokens(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
