#include "train/ops/expert_exchange.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <numeric>

#include "train/ops/pair_order.h"
#include "train/ops/saved_state.h"
#include "train/ops/stand_in.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Where each pair of this rank's tokens went, and how many rows came from and went to every rank.
struct Exchange {
  PairOrder order;  // rows sorted by expert, hence by rank
  std::vector<int64_t> send_rows, receive_rows;
  const Communicator* group = nullptr;
  Place place;

  int64_t num_sent() const { return std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}); }
  int64_t num_received() const { return std::accumulate(receive_rows.begin(), receive_rows.end(), int64_t{0}); }

  // [rows sent, ...] to [rows received, ...], and back.
  at::Tensor to_experts(const at::Tensor& rows) const {
    return exchange(rows, num_received(), receive_rows, send_rows);
  }
  at::Tensor from_experts(const at::Tensor& rows) const { return exchange(rows, num_sent(), send_rows, receive_rows); }

 private:
  at::Tensor exchange(const at::Tensor& rows, int64_t num_rows, const std::vector<int64_t>& receive,
                      const std::vector<int64_t>& send) const {
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] = num_rows;
    const at::Tensor out = at::empty(shape, rows.options());
    group->all_to_all(out, rows, receive, send).wait();
    return out;
  }
};
using SharedExchange = std::shared_ptr<const Exchange>;

std::vector<int64_t> sums_by_rank(const at::Tensor& counts_RE) {
  const at::Tensor sums = counts_RE.sum(1).cpu();
  return {sums.data_ptr<int64_t>(), sums.data_ptr<int64_t>() + sums.numel()};
}

struct SendFunction : torch::autograd::Function<SendFunction> {
  struct State {
    SharedExchange exchange;
    std::vector<int64_t> weights_shape;
  };

  // Returns the rows and routing weights that came in: [R', D] and [R', 1].
  static variable_list forward(AutogradContext* context, const at::Tensor& x_TD, const at::Tensor& weights_TK,
                               const SharedExchange& exchange) {
    const OperationScope scope("expert_exchange", OperationPhase::kForward, exchange->place);
    const int64_t sent = exchange->num_sent();
    const at::Tensor rows_RD = at::empty({sent, x_TD.size(1)}, x_TD.options());
    gather_rows(x_TD, exchange->order.token_of_row, 0, rows_RD);
    const at::Tensor weights_R1 =
        at::index_select(weights_TK.view({-1}), 0, exchange->order.pair_of_row.narrow(0, 0, sent)).view({-1, 1});
    keep_state(context, State{exchange, weights_TK.sizes().vec()});
    return {exchange->to_experts(rows_RD), exchange->to_experts(weights_R1)};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const Exchange& exchange = *state.exchange;
    const OperationScope scope("expert_exchange", OperationPhase::kBackward, exchange.place);
    const at::Tensor d_rows_RD = exchange.from_experts(std::exchange(grads[0], {}));
    const at::Tensor d_weights_R1 = exchange.from_experts(std::exchange(grads[1], {}));
    const at::Tensor d_weights_TK = at::zeros(state.weights_shape, d_weights_R1.options());
    d_weights_TK.view({-1}).index_copy_(0, exchange.order.pair_of_row.narrow(0, 0, exchange.num_sent()).to(at::kLong),
                                        d_weights_R1.view({-1}));
    return {combine_rows(d_rows_RD, exchange.order.row_of_pair_TK, {}), d_weights_TK, {}};
  }
};

struct ReturnFunction : torch::autograd::Function<ReturnFunction> {
  struct State {
    SharedExchange exchange;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual_TD, const at::Tensor& y_RD,
                            const SharedExchange& exchange) {
    const OperationScope scope("expert_exchange", OperationPhase::kForward, exchange->place);
    keep_state(context, State{exchange});
    return combine_rows(exchange->from_experts(y_RD), exchange->order.row_of_pair_TK, residual_TD);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const Exchange& exchange = *state.exchange;
    const OperationScope scope("expert_exchange", OperationPhase::kBackward, exchange.place);
    const at::Tensor rows_RD = at::empty({exchange.num_sent(), grads[0].size(1)}, grads[0].options());
    gather_rows(grads[0], exchange.order.token_of_row, 0, rows_RD);
    return {grads[0], exchange.to_experts(rows_RD), {}};
  }
};

}  // namespace

at::Tensor run_split_experts(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights,
                             const Communicator& group, Place place, ExpertSaving saving) {
  const int64_t local_experts = weights.gate_up->value.size(0), ranks = group.size();
  const auto exchange = std::make_shared<Exchange>();
  at::Tensor expert_of_row;
  {
    const OperationScope scope("expert_exchange", OperationPhase::kForward, place);
    const at::NoGradGuard no_grad;
    exchange->order = order_pairs(routing.indices_TK, local_experts * ranks, /*alignment=*/1);
    exchange->group = &group;
    exchange->place = place;
    const at::Tensor& offsets = exchange->order.offsets_E1;
    const at::Tensor send_counts = offsets.slice(0, 1) - offsets.slice(0, 0, -1);
    const at::Tensor receive_counts = at::empty_like(send_counts);
    const std::vector<int64_t> even(static_cast<size_t>(ranks), local_experts);
    group.all_to_all(receive_counts, send_counts, even, even).wait();
    if (send_counts.is_meta()) {
      StatedExchange stated = stated_exchange(routing.indices_TK.size(0), group.rank(), place.layer);
      exchange->send_rows = std::move(stated.send_rows);
      exchange->receive_rows = std::move(stated.receive_rows);
    } else {
      exchange->send_rows = sums_by_rank(send_counts.view({ranks, local_experts}));
      exchange->receive_rows = sums_by_rank(receive_counts.view({ranks, local_experts}));
    }
    // Rows come by rank, and within a rank by expert.
    expert_of_row = at::repeat_interleave(at::arange(local_experts, routing.indices_TK.options()).repeat({ranks}),
                                          receive_counts, 0, exchange->num_received())
                        .view({-1, 1});
  }
  const SharedExchange shared = exchange;
  const variable_list received = SendFunction::apply(routing.x_TD, routing.weights_TK, shared);
  const at::Tensor y_RD =
      run_experts(at::zeros_like(received[0]), received[0], received[1], expert_of_row, weights, place, saving);
  return ReturnFunction::apply(residual_TD, y_RD, shared);
}

}  // namespace mmoe
