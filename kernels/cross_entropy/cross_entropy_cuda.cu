#include "kernels/cross_entropy/cross_entropy_cuda.h"
#include "kernels/device/math.h"
#include "kernels/device/pack.h"
#include "kernels/device/reduce.h"

namespace mmoe::kernels {
namespace {

// A maximum and the sum of exp(x - maximum) over the numbers seen so far.
template <class A>
struct SoftmaxSum {
  A maximum = -kInfinity<A>, sum = 0;

  __device__ __forceinline__ void add(A x) {
    if (x > maximum) {
      sum = sum * device_exp(maximum - x) + 1;
      maximum = x;
    } else if (!(x == -kInfinity<A>)) {  // whose exponential is 0 beside any maximum
      sum += device_exp(x - maximum);
    }
  }
};

// One block a row: one pass for maximum and sum, one for the gradient. +inf - inf makes the sum NaN, as NaN does.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) cross_entropy_kernel(CrossEntropy a) {
  using A = Accumulate<T>;
  const int64_t r = blockIdx.x, packs = a.vocab_size / kWidth;
  T* logits = static_cast<T*>(a.logits) + r * a.stride;
  const int64_t target = a.targets[r];
  const bool valid = target >= 0 && target < a.vocab_size;
  if (!valid) {
    const A value = target == kIgnoredTarget ? A{0} : kNan<A>;
    if (threadIdx.x == 0) static_cast<A*>(a.loss)[r] = value;
    if (a.gradient == LogitsGradient::kOmit) return;
    for (int64_t v = threadIdx.x; v < a.vocab_size; v += kThreadsPerBlock) logits[v] = store<T>(value);
    return;
  }
  SoftmaxSum<A> own;
  for (int64_t i = threadIdx.x; i < packs; i += kThreadsPerBlock) {
    const auto pack = load_pack<kWidth>(logits, i);
    each<kWidth>([&](int e) { own.add(load(pack.element[e])); });
  }
  __shared__ A of_warp[kThreadsPerBlock / kWarp];
  A maximum = warp_max(own.maximum);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = maximum;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kThreadsPerBlock / kWarp; ++w) maximum = of_warp[w] > maximum ? of_warp[w] : maximum;
  const A sum = block_sum<kThreadsPerBlock>(own.sum * device_exp(own.maximum - maximum));
  const A target_logit = load(logits[target]);
  __syncthreads();  // the logits are overwritten below
  if (threadIdx.x == 0) static_cast<A*>(a.loss)[r] = maximum + device_log(sum) - target_logit;
  if (a.gradient == LogitsGradient::kOmit) return;
  const A scale = static_cast<A>(a.scale), inverse = scale / sum;
  for (int64_t i = threadIdx.x; i < packs; i += kThreadsPerBlock) {
    auto pack = load_pack<kWidth>(logits, i);
    each<kWidth>([&](int e) {
      const A softmax = device_exp(load(pack.element[e]) - maximum);
      const A gradient = i * kWidth + e == target ? scale * (softmax / sum - 1) : softmax * inverse;
      pack.element[e] = store<T>(gradient);
    });
    store_pack<kWidth>(logits, i, pack);
  }
}

}  // namespace

cudaError_t cross_entropy_cuda(const CrossEntropy& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = can_use_wide_packs<T>({args.logits}, {args.vocab_size, args.stride});
    return with_width<T>(wide, [&](auto width) {
      return launch(cross_entropy_kernel<T, decltype(width)::width>, dim3(static_cast<unsigned>(args.num_rows)),
                    dim3(kThreadsPerBlock), stream, args);
    });
  });
}

}  // namespace mmoe::kernels
