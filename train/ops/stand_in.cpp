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

StatedExchange stated_exchange(int64_t tokens, int64_t position, int64_t layer) {
  const std::vector<int> k = stand_in().k_of_expert_ranks(layer);
  const auto ranks = static_cast<int64_t>(k.size());
  const int64_t pairs = tokens * k[position], own = stated_rows(pairs, stand_in().own_share);
  StatedExchange exchange;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t other = rank < position ? rank : rank - 1;
    exchange.send_rows.push_back(rank == position ? own : part_of(pairs - own, other, ranks - 1));
    exchange.receive_rows.push_back(stated_rows(tokens * k[rank], stand_in().own_share));
  }
  return exchange;
}

std::vector<int64_t> stated_offsets(int64_t pairs, int64_t num_experts, int64_t alignment) {
  std::vector<int64_t> offsets{0};
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const int64_t rows = part_of(pairs, expert, num_experts);
    offsets.push_back(offsets.back() + (rows + alignment - 1) / alignment * alignment);
  }
  return offsets;
}

}  // namespace mmoe
