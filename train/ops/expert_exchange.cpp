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

int64_t sum_of(const std::vector<int64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
}

// Where each pair of this rank's tokens went, and how many rows came from and went to every rank.
struct Exchange {
  PairOrder order;                               // rows sorted by expert, hence by rank
  std::vector<int64_t> send_rows, receive_rows;  // of the expert group
  std::vector<int64_t> gather_rows;              // what each rank of the expert-tensor group received
  ExpertGroups groups;
  Place place;

  int64_t num_sent() const { return sum_of(send_rows); }
  int64_t num_received() const { return sum_of(receive_rows); }
  int64_t num_gathered() const { return sum_of(gather_rows); }

  // [rows sent, ...] to [rows gathered, ...].
  at::Tensor to_experts(at::Tensor rows) const {
    rows = exchange(*groups.expert, std::move(rows), receive_rows, send_rows);
    if (groups.expert_tensor->size() == 1) return rows;
    // c10d gathers no uneven sizes over Gloo: every rank gets a copy.
    std::vector<int64_t> copies(static_cast<size_t>(rows.dim()), 1);
    copies[0] = groups.expert_tensor->size();
    rows = rows.repeat(copies);
    return exchange(*groups.expert_tensor, std::move(rows), gather_rows, for_each_tensor_rank());
  }
  // Partial sums [rows gathered, ...] to sums over the expert-tensor group [rows sent, ...].
  at::Tensor from_experts(at::Tensor rows) const {
    if (const int64_t parts = groups.expert_tensor->size(); parts > 1) {
      rows = exchange(*groups.expert_tensor, std::move(rows), for_each_tensor_rank(), gather_rows);
      rows = rows.view({parts, num_received(), rows.size(1)}).sum(0);
    }
    return exchange(*groups.expert, std::move(rows), send_rows, receive_rows);
  }

 private:
  std::vector<int64_t> for_each_tensor_rank() const {
    return std::vector(static_cast<size_t>(groups.expert_tensor->size()), num_received());
  }
  static at::Tensor exchange(const Communicator& group, at::Tensor rows, const std::vector<int64_t>& receive,
                             const std::vector<int64_t>& send) {
    if (group.size() == 1) return rows;
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] = sum_of(receive);
    const at::Tensor out = at::empty(shape, rows.options());
    group.all_to_all(out, rows, receive, send).wait();
    return out;
  }
};
using SharedExchange = std::shared_ptr<const Exchange>;

std::vector<int64_t> sums_by_rank(const at::Tensor& counts, int64_t ranks) {
  const at::Tensor sums = counts.view({ranks, -1}).sum(1).cpu();
  return {sums.data_ptr<int64_t>(), sums.data_ptr<int64_t>() + sums.numel()};
}

struct SendFunction : torch::autograd::Function<SendFunction> {
  struct State {
    SharedExchange exchange;
    std::vector<int64_t> weights_shape;
  };

  // Returns the rows and routing weights that this rank's experts work on: [R', D] and [R', 1].
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

SplitExpertsResult run_split_experts(const at::Tensor& residual_TD, const Routing& routing,
                                     const ExpertWeights& weights, const ExpertGroups& groups, Place place,
                                     ExpertSaving saving) {
  const Communicator &expert = *groups.expert, &expert_tensor = *groups.expert_tensor;
  const int64_t local_experts = weights.gate_up->value.size(0), ranks = expert.size(), parts = expert_tensor.size();
  const auto exchange = std::make_shared<Exchange>();
  at::Tensor expert_of_row;
  {
    const OperationScope scope("expert_exchange", OperationPhase::kForward, place);
    const at::NoGradGuard no_grad;
    exchange->order = order_pairs(routing.indices_TK, local_experts * ranks, /*alignment=*/1);
    exchange->groups = groups;
    exchange->place = place;
    const at::Tensor& offsets = exchange->order.offsets_E1;
    const at::Tensor send_counts = offsets.slice(0, 1) - offsets.slice(0, 0, -1);
    const at::Tensor receive_counts = at::empty_like(send_counts);
    const std::vector<int64_t> even(static_cast<size_t>(ranks), local_experts);
    expert.all_to_all(receive_counts, send_counts, even, even).wait();
    const at::Tensor gather_counts = at::empty({parts * receive_counts.numel()}, receive_counts.options());
    expert_tensor.all_gather(gather_counts, receive_counts).wait();
    if (send_counts.is_meta()) {
      StatedExchange stated =
          stated_exchange(routing.indices_TK.size(0), expert.rank(), expert_tensor.rank(), parts, place.layer);
      exchange->send_rows = std::move(stated.send_rows);
      exchange->receive_rows = std::move(stated.receive_rows);
      exchange->gather_rows = std::move(stated.gather_rows);
    } else {
      exchange->send_rows = sums_by_rank(send_counts, ranks);
      exchange->receive_rows = sums_by_rank(receive_counts, ranks);
      exchange->gather_rows = sums_by_rank(gather_counts, parts);
    }
    // Rows come by part, within that by rank, and within a rank by expert.
    expert_of_row =
        at::repeat_interleave(at::arange(local_experts, routing.indices_TK.options()).repeat({parts * ranks}),
                              gather_counts, 0, exchange->num_gathered())
            .view({-1, 1});
  }
  const SharedExchange shared = exchange;
  const variable_list received = SendFunction::apply(routing.x_TD, routing.weights_TK, shared);
  const at::Tensor y_RD =
      run_experts(at::zeros_like(received[0]), received[0], received[1], expert_of_row, weights, place, saving);
  return {ReturnFunction::apply(residual_TD, y_RD, shared),
          {static_cast<double>(exchange->num_received()), static_cast<double>(exchange->num_gathered())}};
}

}  // namespace mmoe
