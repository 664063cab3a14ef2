#include "kernels/device/counting_sort.h"
#include "kernels/device/pack.h"
#include "kernels/embedding/embedding_cuda.h"

namespace mmoe::kernels {
namespace {

// The rows of dx are sorted by token, stably: a radix sort in passes of 9 bits. Then a block adds the rows of one token
// in order.
constexpr int kDigitBits = 9;
static_assert(1 << kDigitBits == kMaxBuckets);

// Position i of the order after the pass before (or of the text) to its token's digit; invalid tokens sort last.
struct DigitOfToken {
  const int32_t* tokens;
  const int32_t* order;  // null in the first pass
  int32_t vocab_size;
  int shift;
  __device__ __forceinline__ int operator()(int64_t i) const {
    const int32_t token = tokens[order == nullptr ? i : order[i]];
    const bool valid = token >= 0 && token < vocab_size;
    return (valid ? token : vocab_size) >> shift & (kMaxBuckets - 1);
  }
};

struct WriteOrder {
  const int32_t* order;  // null in the first pass
  int32_t* next_order;
  __device__ __forceinline__ void operator()(int64_t i, int32_t place) const {
    next_order[place] = order == nullptr ? static_cast<int32_t>(i) : order[i];
  }
};

// Block (i, tile) adds the rows of one token, if the token's first row stands at position i of the order.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) add_rows_kernel(EmbeddingBackward a, const int32_t* order) {
  using A = Accumulate<T>;
  const int64_t begin = blockIdx.x, packs = a.size / kWidth;
  const int64_t pack = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  const int32_t token = a.tokens[order[begin]];
  if (token < 0 || token >= a.vocab_size || pack >= packs) return;
  if (begin > 0 && a.tokens[order[begin - 1]] == token) return;
  A* d_weight = static_cast<A*>(a.d_weight) + token * a.size;
  auto sum = load_pack<kWidth>(d_weight, pack);
  for (int64_t i = begin; i < a.num_tokens && a.tokens[order[i]] == token; ++i) {
    const auto dx = load_pack<kWidth>(static_cast<const T*>(a.dx) + order[i] * a.size, pack);
    each<kWidth>([&](int e) { sum.element[e] += load(dx.element[e]); });
  }
  store_pack<kWidth>(d_weight, pack, sum);
}

// The workspace: two orders [T], then the sort's own.
size_t order_size(const EmbeddingBackward& args) {
  return (static_cast<size_t>(args.num_tokens) * sizeof(int32_t) + 15) / 16 * 16;
}

}  // namespace

size_t embedding_backward_cuda_workspace_size(const EmbeddingBackward& args) {
  return 2 * order_size(args) + counting_sort_workspace_size(args.num_tokens, kMaxBuckets);
}

cudaError_t embedding_backward_cuda(const EmbeddingBackward& args, cudaStream_t stream) {
  if (args.num_tokens == 0) return cudaSuccess;
  char* workspace = static_cast<char*>(args.workspace);
  int32_t* orders[2] = {reinterpret_cast<int32_t*>(workspace),
                        reinterpret_cast<int32_t*>(workspace + order_size(args))};
  int32_t* places = reinterpret_cast<int32_t*>(workspace + 2 * order_size(args));
  const int32_t* order = nullptr;
  for (int pass = 0; pass == 0 || args.vocab_size >> (pass * kDigitBits) > 0; ++pass) {
    int32_t* next_order = orders[pass % 2];
    const DigitOfToken digit{args.tokens, order, static_cast<int32_t>(args.vocab_size), pass * kDigitBits};
    const cudaError_t error = counting_sort<DigitOfToken, WriteOrder, int64_t>(
        digit, WriteOrder{order, next_order}, args.num_tokens, kMaxBuckets, 1, places, nullptr, nullptr, stream);
    if (error != cudaSuccess) return error;
    order = next_order;
  }
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    // A pack of d_weight, of the accumulate type, must fit into 16 bytes too.
    using A = Accumulate<T>;
    return with_width<A>(can_use_wide_packs<A>({args.dx, args.d_weight}, {args.size}), [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      const int64_t packs = args.size / kWidth;
      const unsigned threads = packs < kThreadsPerBlock ? num_blocks(packs, kWarp) * kWarp : kThreadsPerBlock;
      const dim3 grid(static_cast<unsigned>(args.num_tokens), num_blocks(packs, threads));
      return launch(add_rows_kernel<T, kWidth>, grid, dim3(threads), stream, args, order);
    });
  });
}

}  // namespace mmoe::kernels
