#include "train/ops/context_exchange.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <utility>

namespace mmoe {
namespace {

at::Tensor exchange(at::Tensor from, const Communicator& context) {
  const std::vector<int64_t> rows(static_cast<size_t>(context.size()), from.size(0) / context.size());
  const at::Tensor to = at::empty_like(from);
  context.all_to_all(to, from, rows, rows).wait();
  return to;
}

// Between own_NX and by_rank [c N, columns / c], which holds what each rank has or gets one after another.
enum class Copy { kToRanks, kFromRanks };
void copy_blocks(const at::Tensor& own_NX, const at::Tensor& by_rank, const std::vector<int64_t>& blocks, int64_t ranks,
                 Copy direction) {
  const int64_t tokens = own_NX.size(0);
  const at::Tensor parts_cNX = by_rank.view({ranks, tokens, -1});
  int64_t first = 0;
  for (const int64_t block : blocks) {
    const at::Tensor own = own_NX.narrow(1, first, block).view({tokens, ranks, block / ranks}).transpose(0, 1);
    const at::Tensor part = parts_cNX.narrow(2, first / ranks, block / ranks);
    direction == Copy::kToRanks ? part.copy_(own) : own.copy_(part);
    first += block;
  }
}

}  // namespace

at::Tensor tokens_to_heads(at::Tensor own_NX, const std::vector<int64_t>& blocks, const Communicator* context) {
  if (context == nullptr) return own_NX;
  const int64_t ranks = context->size();
  at::Tensor by_rank = at::empty({own_NX.size(0) * ranks, own_NX.size(1) / ranks}, own_NX.options());
  copy_blocks(own_NX, by_rank, blocks, ranks, Copy::kToRanks);
  own_NX.reset();
  return exchange(std::move(by_rank), *context);
}

at::Tensor heads_to_tokens(at::Tensor all_TX, const std::vector<int64_t>& blocks, const Communicator* context) {
  if (context == nullptr) return all_TX;
  const int64_t ranks = context->size();
  const at::Tensor by_rank = exchange(std::move(all_TX), *context);
  const at::Tensor own_NX = at::empty({by_rank.size(0) / ranks, by_rank.size(1) * ranks}, by_rank.options());
  copy_blocks(own_NX, by_rank, blocks, ranks, Copy::kFromRanks);
  return own_NX;
}

}  // namespace mmoe
