#include <algorithm>
#include <climits>

#include "kernels/device/math.h"
#include "kernels/device/reduce.h"
#include "kernels/router/router_cuda.h"

namespace mmoe::kernels {
namespace {

// One warp a token. Expert e lives in lane e % 32 as that lane's number e / 32, so a lane holds kPerLane experts, in
// registers because every loop over them is unrolled.
constexpr int kWarpsPerBlock = kThreadsPerBlock / kWarp;
constexpr int64_t kMaxBlocks = 256;  // of the forward pass: each leaves one set of partial statistics

unsigned forward_blocks(int64_t num_tokens) {
  return static_cast<unsigned>(std::clamp<int64_t>((num_tokens + kWarpsPerBlock - 1) / kWarpsPerBlock, 1, kMaxBlocks));
}

// The forward pass's workspace: sums of each block.
template <class A>
struct Partials {
  A* probability;   // [blocks, E]
  A* z_sum;         // [blocks]
  int32_t* counts;  // [blocks, E]
};

template <class A>
Partials<A> partials(const RouterForward& a) {
  const int64_t blocks = forward_blocks(a.num_tokens);
  A* probability = static_cast<A*>(a.workspace);
  A* z_sum = probability + blocks * a.num_experts;
  return {probability, z_sum, reinterpret_cast<int32_t*>(z_sum + blocks)};
}

// The expert with the largest of the warp's values whose bit is not set in `taken`, the lowest of equal ones; sets its
// bit. Every lane gets the same answer, and the value in `best`. Rows with NaN give no meaningful answer.
template <int kPerLane, class A>
__device__ __forceinline__ int take_largest(const A (&value)[kPerLane], unsigned& taken, int num_experts, A& best) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  best = -kInfinity<A>;
  int best_expert = INT_MAX;
#pragma unroll
  for (int i = kPerLane - 1; i >= 0; --i) {
    const int e = i * kWarp + lane;
    if (e < num_experts && (taken >> i & 1u) == 0 && !(value[i] < best)) {
      best = value[i] >= best ? value[i] : best;
      best_expert = e;
    }
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(kAllLanes, best, offset);
    const int other_expert = __shfl_xor_sync(kAllLanes, best_expert, offset);
    if (other > best || (other == best && other_expert < best_expert)) {
      best = other;
      best_expert = other_expert;
    }
  }
  if (best_expert % kWarp == lane) taken |= 1u << (best_expert / kWarp);
  return best_expert;
}

// Selects the experts of token t and writes indices and weights; adds the selections to `counts` of the block.
// Probabilities are exp(logit - maximum) * inverse, all NaN if `inverse` is.
template <int kPerLane, class A>
__device__ __forceinline__ void select(const RouterForward& a, int64_t t, const A (&logit)[kPerLane], A maximum,
                                       A inverse, int* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int E = static_cast<int>(a.num_experts), K = static_cast<int>(a.top_k);
  const bool by_reference = a.normalization == GateNormalization::kReference;
  const int k_reference = static_cast<int>(a.k_reference);
  const int num_ordered = by_reference && k_reference > K ? k_reference : K;
  int own_expert[2] = {-1, -1};  // slots `lane` and `lane + 32`
  A own_p[2] = {0, 0}, cumulative = 0, norm = 0;
  int selected = 0;
  unsigned taken = 0;
  for (int j = 0; j < num_ordered; ++j) {
    int e = j;
    A p_e = inverse;
    if (inverse == inverse) {
      e = take_largest(logit, taken, E, p_e);
      p_e = device_exp(p_e - maximum) * inverse;
    }
    const bool is_selected = j < K && (a.top_p <= 0 || !(cumulative >= static_cast<A>(a.top_p)));
    cumulative += p_e;
    if (by_reference ? j < k_reference : is_selected) norm += p_e;
    if (!is_selected) continue;
    ++selected;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (j != lane + half * kWarp) continue;
      own_expert[half] = e;
      own_p[half] = p_e;
      atomicAdd(&counts[e], 1);
    }
  }
  if (a.normalization == GateNormalization::kNone) norm = 1;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int j = lane + half * kWarp;
    if (j >= K) continue;
    a.indices[t * K + j] = own_expert[half];
    static_cast<A*>(a.weights)[t * K + j] = own_expert[half] < 0 ? A{0} : own_p[half] / norm;
  }
  if (a.num_selected != nullptr && lane == 0) a.num_selected[t] = selected;
}

template <class A, int kPerLane>
__global__ void __launch_bounds__(kThreadsPerBlock) forward_kernel(RouterForward a, Partials<A> partials) {
  __shared__ int counts[kPerLane * kWarp];
  __shared__ A of_warp[kWarpsPerBlock][kPerLane * kWarp];
  __shared__ A z_of_warp[kWarpsPerBlock];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int E = static_cast<int>(a.num_experts);
  for (int e = static_cast<int>(threadIdx.x); e < E; e += kThreadsPerBlock) counts[e] = 0;
  __syncthreads();

  A p_sum[kPerLane] = {}, z_sum = 0;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp; t < a.num_tokens;
       t += static_cast<int64_t>(gridDim.x) * kWarpsPerBlock) {
    const A* logits = static_cast<const A*>(a.logits) + t * E;
    A logit[kPerLane], p[kPerLane], maximum = -kInfinity<A>, sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = i * kWarp + lane;
      logit[i] = e < E ? logits[e] : -kInfinity<A>;
      maximum = logit[i] > maximum ? logit[i] : maximum;
    }
    maximum = warp_max(maximum);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      p[i] = i * kWarp + lane < E ? device_exp(logit[i] - maximum) : A{0};
      sum += p[i];
    }
    sum = warp_sum(sum);  // NaN for a row with NaN, with +inf, or all -inf
    const A inverse = 1 / sum, log_sum_exp = maximum + device_log(sum);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      p[i] *= inverse;
      p_sum[i] += p[i];
      if (i * kWarp + lane < E) static_cast<A*>(a.probabilities)[t * E + i * kWarp + lane] = p[i];
    }
    z_sum += log_sum_exp * log_sum_exp;
    if (lane == 0) static_cast<A*>(a.log_sum_exp)[t] = log_sum_exp;
    select(a, t, logit, maximum, inverse, counts);
  }

  if (lane == 0) z_of_warp[warp] = z_sum;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) of_warp[warp][i * kWarp + lane] = p_sum[i];
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < E; e += kThreadsPerBlock) {
    A sum = 0;
#pragma unroll
    for (int w = 0; w < kWarpsPerBlock; ++w) sum += of_warp[w][e];
    partials.probability[static_cast<int64_t>(blockIdx.x) * E + e] = sum;
    partials.counts[static_cast<int64_t>(blockIdx.x) * E + e] = counts[e];
  }
  if (threadIdx.x == 0) {
    A sum = 0;
#pragma unroll
    for (int w = 0; w < kWarpsPerBlock; ++w) sum += z_of_warp[w];
    partials.z_sum[blockIdx.x] = sum;
  }
}

// One block, one thread an expert: adds up the blocks of the forward kernel in order and forms the losses.
template <class A>
__global__ void __launch_bounds__(kMaxExperts) finish_kernel(RouterForward a, Partials<A> partials, int blocks) {
  constexpr int kThreads = static_cast<int>(kMaxExperts);
  const int64_t e = threadIdx.x, E = a.num_experts;
  const A num_tokens = static_cast<A>(a.num_tokens > 0 ? a.num_tokens : 1);
  A mean = 0, z_sum = 0;
  int64_t count = 0;
  if (e < E) {
    for (int b = 0; b < blocks; ++b) {
      mean += partials.probability[b * E + e];
      count += partials.counts[b * E + e];
    }
    mean /= num_tokens;
    a.counts[e] = count;
    static_cast<A*>(a.mean_probability)[e] = mean;
  }
  for (int64_t b = e; b < blocks; b += kThreads) z_sum += partials.z_sum[b];
  z_sum = block_sum<kThreads>(z_sum);
  const long long pairs = block_sum<kThreads>(static_cast<long long>(count));
  const A share = pairs > 0 ? static_cast<A>(count) / static_cast<A>(pairs) : A{0};
  const A balance = block_sum<kThreads>(pairs > 0 ? share * mean : A{0});
  if (e != 0) return;
  *static_cast<A*>(a.load_balance_loss) = static_cast<A>(E) * balance;
  *static_cast<A*>(a.z_loss) = z_sum / num_tokens;
}

// One block a multiprocessor is enough to ask for: left alone, the compiler saves registers for more and spills.
template <class A, int kPerLane>
__global__ void __launch_bounds__(kThreadsPerBlock, 1) backward_kernel(RouterBackward a, A balance_factor, A z_factor) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int E = static_cast<int>(a.num_experts), K = static_cast<int>(a.top_k);
  long long pairs = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (i * kWarp + lane < E) pairs += a.counts[i * kWarp + lane];
  }
  pairs = warp_sum(pairs);
  const A balance_of_count = pairs > 0 ? balance_factor / static_cast<A>(pairs) : A{0};

  for (int64_t t = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp; t < a.num_tokens;
       t += static_cast<int64_t>(gridDim.x) * kWarpsPerBlock) {
    const A* p_row = static_cast<const A*>(a.probabilities) + t * E;
    const A* w = static_cast<const A*>(a.weights) + t * K;
    const A* dw = static_cast<const A*>(a.d_weights) + t * K;
    const int32_t* indices = a.indices + t * K;
    A p[kPerLane], d_p[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = i * kWarp + lane;
      p[i] = e < E ? p_row[e] : A{0};
      d_p[i] = e < E ? balance_of_count * static_cast<A>(a.counts[e]) : A{0};
    }
    // The experts in the norm, as bits of `in_norm`: the selected ones first, then the largest others.
    const int k_norm = a.normalization == GateNormalization::kReference  ? static_cast<int>(a.k_reference)
                       : a.normalization == GateNormalization::kSelected ? K
                                                                         : 0;
    unsigned in_norm = 0, selected_bits = 0;
    A norm = 0, dot = 0;
    int selected = 0;
    for (; selected < K && indices[selected] >= 0; ++selected) {
      const int e = indices[selected];
      dot += dw[selected] * w[selected];
      if (e % kWarp == lane) selected_bits |= 1u << (e / kWarp);
      if (selected < k_norm) norm += p_row[e];
      if (selected < k_norm && e % kWarp == lane) in_norm |= 1u << (e / kWarp);
    }
    if (a.normalization == GateNormalization::kReference) {
      for (int j = selected; j < k_norm; ++j) {
        const unsigned before = selected_bits;
        A p_e;
        take_largest(p, selected_bits, E, p_e);
        in_norm |= selected_bits & ~before;
        norm += p_e;
      }
    }
    const A inverse_norm = k_norm == 0 ? A{1} : 1 / norm;
    for (int j = 0; j < selected; ++j) {
      const A gradient = dw[j] * inverse_norm;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) d_p[i] += i * kWarp + lane == indices[j] ? gradient : A{0};
    }
    A inner = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if ((in_norm >> i & 1u) != 0) d_p[i] -= dot * inverse_norm;
      inner += p[i] * d_p[i];
    }
    inner = warp_sum(inner);
    const A shift = z_factor * static_cast<const A*>(a.log_sum_exp)[t] - inner;
    __syncwarp();  // d_logits may alias probabilities, which other lanes have read
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (i * kWarp + lane < E) static_cast<A*>(a.d_logits)[t * E + i * kWarp + lane] = p[i] * (d_p[i] + shift);
    }
  }
}

template <int kPerLane>
struct PerLaneTag {
  static constexpr int per_lane = kPerLane;
};

// Calls launcher(PerLaneTag) with the number of experts a lane must hold, rounded up to a power of two.
template <class Launcher>
cudaError_t with_experts_per_lane(int64_t num_experts, const Launcher& launcher) {
  if (num_experts <= 1 * kWarp) return launcher(PerLaneTag<1>{});
  if (num_experts <= 2 * kWarp) return launcher(PerLaneTag<2>{});
  if (num_experts <= 4 * kWarp) return launcher(PerLaneTag<4>{});
  if (num_experts <= 8 * kWarp) return launcher(PerLaneTag<8>{});
  if (num_experts <= kMaxExperts) return launcher(PerLaneTag<16>{});
  return cudaErrorInvalidValue;
}

}  // namespace

size_t router_forward_cuda_workspace_size(const RouterForward& args) {
  const size_t blocks = forward_blocks(args.num_tokens), E = static_cast<size_t>(args.num_experts);
  return blocks * ((E + 1) * size_of(accumulate(args.scalar)) + E * sizeof(int32_t));
}

cudaError_t router_forward_cuda(const RouterForward& args, cudaStream_t stream) {
  return visit_accumulate(args.scalar, [&](auto tag) {
    using A = typename decltype(tag)::type;
    const unsigned blocks = forward_blocks(args.num_tokens);
    const cudaError_t error = with_experts_per_lane(args.num_experts, [&](auto per_lane) {
      return launch(forward_kernel<A, decltype(per_lane)::per_lane>, dim3(blocks), dim3(kThreadsPerBlock), stream, args,
                    partials<A>(args));
    });
    if (error != cudaSuccess) return error;
    return launch(finish_kernel<A>, dim3(1), dim3(static_cast<unsigned>(kMaxExperts)), stream, args, partials<A>(args),
                  static_cast<int>(blocks));
  });
}

cudaError_t router_backward_cuda(const RouterBackward& args, cudaStream_t stream) {
  return visit_accumulate(args.scalar, [&](auto tag) {
    using A = typename decltype(tag)::type;
    const double N = static_cast<double>(args.num_tokens_in_mean > 0 ? args.num_tokens_in_mean : args.num_tokens);
    const A balance_factor = static_cast<A>(args.load_balance_coefficient * static_cast<double>(args.num_experts) / N);
    const A z_factor = static_cast<A>(args.z_loss_coefficient * 2 / N);
    return with_experts_per_lane(args.num_experts, [&](auto per_lane) {
      return launch(backward_kernel<A, decltype(per_lane)::per_lane>, dim3(num_blocks(args.num_tokens, kWarpsPerBlock)),
                    dim3(kThreadsPerBlock), stream, args, balance_factor, z_factor);
    });
  });
}

}  // namespace mmoe::kernels
