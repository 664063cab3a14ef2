#include "train/ops/stand_in.h"

#include <optional>

#include "sim/plan/stated_rows.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

std::optional<StandIn> active;

// Part `index` of `parts` nearly equal whole parts of `count`.
int64_t part_of(int64_t count, int64_t index, int64_t parts) {
  return count * (index + 1) / parts - count * index / parts;
}

}  // namespace

StandInScope::StandInScope(StandIn stand_in) {
  MMOE_CHECK(!active) << "two dry runs at once";
  active = std::move(stand_in);
}
StandInScope::~StandInScope() { active.reset(); }

const StandIn& stand_in() {
  MMOE_CHECK(active) << "meta tensors outside a dry run";
  return *active;
}

StatedExchange stated_exchange(int64_t tokens, int64_t expert_rank, int64_t tensor_rank, int64_t tensor_ranks,
                               int64_t layer) {
  const std::vector<int> k = stand_in().k_of_expert_ranks(layer);
  const int64_t ranks = static_cast<int64_t>(k.size()) / tensor_ranks;
  const int64_t pairs = tokens * k[expert_rank * tensor_ranks + tensor_rank];
  const int64_t own = stated_rows(pairs, stand_in().own_share);
  StatedExchange exchange;
  exchange.gather_rows.resize(static_cast<size_t>(tensor_ranks));
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t other = rank < expert_rank ? rank : rank - 1;
    exchange.send_rows.push_back(rank == expert_rank ? own : part_of(pairs - own, other, ranks - 1));
    for (int64_t i = 0; i < tensor_ranks; ++i) {
      const int64_t rows = stated_rows(tokens * k[rank * tensor_ranks + i], stand_in().own_share);
      exchange.gather_rows[static_cast<size_t>(i)] += rows;
      if (i == tensor_rank) exchange.receive_rows.push_back(rows);
    }
  }
  return exchange;
}

std::vector<int64_t> stated_offsets(int64_t pairs, int64_t num_experts, int64_t alignment) {
  std::vector<int64_t> offsets{0};
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const int64_t rows = part_of(pairs, expert, num_experts);
    const int64_t padding = part_of(num_experts * (alignment - 1) / 2, expert, num_experts);
    offsets.push_back(offsets.back() + (rows > 0 ? rows + padding : 0));
  }
  return offsets;
}

}  // namespace mmoe
