#include "train/ops/experts.h"

#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "kernels/combine/combine.h"
#include "kernels/swiglu/swiglu.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/swiglu/swiglu_cuda.h"
#endif
#include "sim/memory/chunks.h"
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/pair_order.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct State {
  at::Tensor x_TD, weights_TK;
  at::Tensor gate_up_R2F;    // undefined with kRecompute
  at::Tensor rows_RD, a_RF;  // gathered input and activation: with kAll
  PairOrder order;
  ExpertWeights weights;
  ExpertSaving saving;
  Place place;
};

void activate(const State& state, int64_t first, const at::Tensor& gate_up, const at::Tensor& a_RF) {
  kernels::SwigluForward args;
  args.scalar = kernel_scalar(a_RF);
  args.gate_up = gate_up.data_ptr();
  args.weights = state.weights_TK.data_ptr();
  args.pair_of_row = state.order.pair_of_row.data_ptr<int32_t>() + first;
  args.a = a_RF.data_ptr();
  args.num_rows = a_RF.size(0);
  args.expert_hidden_size = a_RF.size(1);
  MMOE_LAUNCH(a_RF, swiglu_forward, args);
}

// Overwrites gate_up with its gradient and, where the activation was not kept, da with it.
void activate_backward(const State& state, int64_t first, const at::Tensor& gate_up, const at::Tensor& da_RF,
                       const at::Tensor& d_weights_TK) {
  kernels::SwigluBackward args;
  args.scalar = kernel_scalar(da_RF);
  args.da = da_RF.data_ptr();
  if (!state.a_RF.defined()) args.a = da_RF.data_ptr();
  args.gate_up = args.d_gate_up = gate_up.data_ptr();
  args.weights = state.weights_TK.data_ptr();
  args.pair_of_row = state.order.pair_of_row.data_ptr<int32_t>() + first;
  args.d_weights = d_weights_TK.data_ptr();
  args.num_rows = da_RF.size(0);
  args.expert_hidden_size = da_RF.size(1);
  MMOE_LAUNCH(da_RF, swiglu_backward, args);
}

void scatter_add(const at::Tensor& rows_RD, const at::Tensor& token_of_row, int64_t first, const at::Tensor& out_TD) {
  kernels::ScatterAddRows args;
  args.scalar = kernel_scalar(rows_RD);
  args.out_scalar = kernel_scalar(out_TD);
  args.rows = rows_RD.data_ptr();
  args.token_of_row = token_of_row.data_ptr<int32_t>() + first;
  args.out = out_TD.data_ptr();
  args.num_rows = rows_RD.size(0);
  args.size = rows_RD.size(1);
  if (!rows_RD.is_meta()) kernels::scatter_add_rows_cpu(args);
}

// Calls body(expert, first row, number of rows) over all rows in chunks that stay in the cache.
template <class Body>
void for_each_chunk(const PairOrder& order, const Body& body) {
  const int64_t* offsets = order.host_offsets();
  for (int64_t expert = 0; expert + 1 < order.offsets_E1.numel(); ++expert) {
    for (int64_t first = offsets[expert]; first < offsets[expert + 1]; first += kExpertChunkRows) {
      body(expert, first, std::min(kExpertChunkRows, offsets[expert + 1] - first));
    }
  }
}

// The rows of a chunk: in what is kept of all rows, else in the chunk's buffer.
at::Tensor chunk_of(const at::Tensor& kept, const at::Tensor& buffer, int64_t first, int64_t count) {
  return kept.defined() ? kept.narrow(0, first, count) : buffer.narrow(0, 0, count);
}

// Buffers of one chunk: rows of the hidden size, activations, and gate and up where nothing else holds them.
struct ChunkBuffers {
  ChunkBuffers(const State& state, bool activations) {
    const int64_t hidden = state.x_TD.size(1), width = state.weights.down->value.size(2);
    const auto empty = [&](int64_t size) { return at::empty({kExpertChunkRows, size}, state.x_TD.options()); };
    RD = empty(hidden);
    if (activations) RF = empty(width);
    if (state.saving == ExpertSaving::kRecompute) R2F = empty(2 * width);
  }
  at::Tensor RD, RF, R2F;
};

// Adds to the gradient of a weight of all experts, chunk by chunk.
class ExpertGradients {
 public:
  ExpertGradients(const Parameter& weight, const PairOrder& order)
      : grad_(weight.grad), offsets_(order.host_offsets()), sum_(next_sum(weight)) {
    if (sum_ == GradientSum::kContinue) return;
    for (int64_t expert = 0; expert < grad_.size(0); ++expert) {
      if (offsets_[expert] == offsets_[expert + 1]) grad_[expert].zero_();
    }
  }

  void add(int64_t expert, int64_t first_row, const at::Tensor& d_out, const at::Tensor& x) const {
    const bool first_chunk = first_row == offsets_[expert];
    add_weight_gradient(grad_[expert], d_out, x, first_chunk ? sum_ : GradientSum::kContinue);
  }

 private:
  at::Tensor grad_;
  const int64_t* offsets_;
  GradientSum sum_;
};

at::Tensor forward_cpu(State& state, const at::Tensor& residual_TD) {
  const at::Tensor &gate_up_weight = state.weights.gate_up->value, &down_weight = state.weights.down->value;
  const int64_t hidden = state.x_TD.size(1), width = down_weight.size(2);
  const int64_t rows = state.order.host_offsets()[state.order.offsets_E1.numel() - 1];
  const auto options = state.x_TD.options();
  if (state.saving != ExpertSaving::kRecompute) state.gate_up_R2F = at::empty({rows, 2 * width}, options);
  if (state.saving == ExpertSaving::kAll) {
    state.rows_RD = at::empty({rows, hidden}, options);
    state.a_RF = at::empty({rows, width}, options);
  }
  const ChunkBuffers buffers(state, /*activations=*/state.saving != ExpertSaving::kAll);
  // Sums of several experts are formed in the accumulate type and rounded once.
  const at::Tensor out_TD =
      residual_TD.to(accumulate_type(residual_TD.scalar_type()), /*non_blocking=*/false, /*copy=*/true);
  for_each_chunk(state.order, [&](int64_t expert, int64_t first, int64_t count) {
    const at::Tensor x_RD = chunk_of(state.rows_RD, buffers.RD, first, count);
    const at::Tensor gate_up = chunk_of(state.gate_up_R2F, buffers.R2F, first, count);
    const at::Tensor a_RF = chunk_of(state.a_RF, buffers.RF, first, count);
    const at::Tensor out_RD = buffers.RD.narrow(0, 0, count);
    gather_rows(state.x_TD, state.order.token_of_row, first, x_RD);
    product_into(gate_up, x_RD, gate_up_weight[expert].t());
    activate(state, first, gate_up, a_RF);
    product_into(out_RD, a_RF, down_weight[expert].t());
    scatter_add(out_RD, state.order.token_of_row, first, out_TD);
  });
  return out_TD.to(residual_TD.scalar_type());
}

variable_list backward_cpu(const State& state, const at::Tensor& d_out_TD) {
  const at::Tensor &gate_up_weight = state.weights.gate_up->value, &down_weight = state.weights.down->value;
  const auto options = state.x_TD.options();
  const at::Tensor d_weights_TK = at::zeros(state.weights_TK.sizes(), state.weights_TK.options());
  const ChunkBuffers buffers(state, /*activations=*/true);
  const ExpertGradients gate_up_gradients(*state.weights.gate_up, state.order);
  const ExpertGradients down_gradients(*state.weights.down, state.order);
  const at::Tensor dx_TD =
      at::zeros(state.x_TD.sizes(), options.dtype(accumulate_type(options.dtype().toScalarType())));
  for_each_chunk(state.order, [&](int64_t expert, int64_t first, int64_t count) {
    at::Tensor rows_RD = buffers.RD.narrow(0, 0, count), da_RF = buffers.RF.narrow(0, 0, count);
    const at::Tensor gate_up = chunk_of(state.gate_up_R2F, buffers.R2F, first, count);
    if (state.saving == ExpertSaving::kRecompute) {
      gather_rows(state.x_TD, state.order.token_of_row, first, rows_RD);
      product_into(gate_up, rows_RD, gate_up_weight[expert].t());
    }
    gather_rows(d_out_TD, state.order.token_of_row, first, rows_RD);
    product_into(da_RF, rows_RD, down_weight[expert]);
    activate_backward(state, first, gate_up, da_RF, d_weights_TK);
    const at::Tensor a_RF = chunk_of(state.a_RF, buffers.RF, first, count);
    down_gradients.add(expert, first, rows_RD, a_RF);
    const at::Tensor x_RD = chunk_of(state.rows_RD, buffers.RD, first, count);
    if (!state.rows_RD.defined()) gather_rows(state.x_TD, state.order.token_of_row, first, x_RD);
    gate_up_gradients.add(expert, first, gate_up, x_RD);
    product_into(rows_RD, gate_up, gate_up_weight[expert]);
    scatter_add(rows_RD, state.order.token_of_row, first, dx_TD);
  });
  return {dx_TD.to(state.x_TD.scalar_type()), d_weights_TK};
}

// Of all experts at once.
void add_gradients(const Parameter& weight, const at::Tensor& values) {
  add_to_gradient(weight.grad, values, next_sum(weight));
}

// End of each expert's segment, as _grouped_mm wants it.
at::Tensor segment_ends(const State& state) {
  return state.order.offsets_E1.narrow(0, 1, state.order.offsets_E1.numel() - 1).to(at::kInt);
}

at::Tensor forward_cuda(State& state, const at::Tensor& residual_TD) {
  const int64_t capacity = state.order.token_of_row.numel(), hidden = state.x_TD.size(1);
  const int64_t width = state.weights.down->value.size(2);
  const at::Tensor ends_E = segment_ends(state);
  const auto options = state.x_TD.options();
  at::Tensor gate_up_R2F;
  {
    const at::Tensor rows_RD = at::empty({capacity, hidden}, options);
    gather_rows(state.x_TD, state.order.token_of_row, 0, rows_RD);
    gate_up_R2F = at::_grouped_mm(rows_RD, state.weights.gate_up->value.transpose(1, 2), ends_E);
    if (state.saving == ExpertSaving::kAll) state.rows_RD = rows_RD;
  }
  at::Tensor a_RF = at::empty({capacity, width}, options);
  activate(state, 0, gate_up_R2F, a_RF);
  if (state.saving != ExpertSaving::kRecompute) state.gate_up_R2F = gate_up_R2F;
  gate_up_R2F.reset();
  const at::Tensor rows_RD = at::_grouped_mm(a_RF, state.weights.down->value.transpose(1, 2), ends_E);
  if (state.saving == ExpertSaving::kAll) state.a_RF = a_RF;
  a_RF.reset();
  return combine_rows(rows_RD, state.order.row_of_pair_TK, residual_TD);
}

variable_list backward_cuda(const State& state, const at::Tensor& d_out_TD) {
  const int64_t capacity = state.order.token_of_row.numel(), hidden = state.x_TD.size(1);
  const at::Tensor& gate_up_weight = state.weights.gate_up->value;
  const at::Tensor ends_E = segment_ends(state);
  const at::Tensor d_weights_TK = at::zeros(state.weights_TK.sizes(), state.weights_TK.options());
  const at::Tensor rows_RD = at::empty({capacity, hidden}, state.x_TD.options());
  at::Tensor gate_up_R2F = state.gate_up_R2F;
  if (state.saving == ExpertSaving::kRecompute) {
    gather_rows(state.x_TD, state.order.token_of_row, 0, rows_RD);
    gate_up_R2F = at::_grouped_mm(rows_RD, gate_up_weight.transpose(1, 2), ends_E);
  }
  gather_rows(d_out_TD, state.order.token_of_row, 0, rows_RD);
  at::Tensor a_RF = at::_grouped_mm(rows_RD, state.weights.down->value, ends_E);
  activate_backward(state, 0, gate_up_R2F, a_RF, d_weights_TK);
  if (state.a_RF.defined()) a_RF = state.a_RF;
  add_gradients(*state.weights.down, at::_grouped_mm(rows_RD.t(), a_RF, ends_E));
  a_RF.reset();
  if (!state.rows_RD.defined()) gather_rows(state.x_TD, state.order.token_of_row, 0, rows_RD);
  const at::Tensor& x_RD = state.rows_RD.defined() ? state.rows_RD : rows_RD;
  add_gradients(*state.weights.gate_up, at::_grouped_mm(gate_up_R2F.t(), x_RD, ends_E));
  const at::Tensor d_rows_RD = at::_grouped_mm(gate_up_R2F, gate_up_weight, ends_E);
  return {combine_rows(d_rows_RD, state.order.row_of_pair_TK, {}), d_weights_TK};
}

struct ExpertsFunction : torch::autograd::Function<ExpertsFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual_TD, const at::Tensor& x_TD,
                            const at::Tensor& weights_TK, const at::Tensor& indices_TK, const ExpertWeights& weights,
                            ExpertSaving saving, Place place) {
    const OperationScope scope("experts", OperationPhase::kForward, place);
    State state;
    state.x_TD = x_TD.detach();
    state.weights_TK = weights_TK.detach();
    state.weights = weights;
    state.saving = saving;
    state.place = place;
    state.order = order_pairs(indices_TK, weights.gate_up->value.size(0),
                              segment_alignment(x_TD.scalar_type(), runs_on_gpu(x_TD)));
    const at::Tensor out_TD = runs_on_gpu(x_TD) ? forward_cuda(state, residual_TD) : forward_cpu(state, residual_TD);
    keep_state(context, std::move(state));
    return out_TD;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("experts", OperationPhase::kBackward, state.place);
    const variable_list d = runs_on_gpu(grads[0]) ? backward_cuda(state, grads[0]) : backward_cpu(state, grads[0]);
    return {grads[0], d[0], d[1], {}, {}, {}, {}};
  }
};

}  // namespace

int64_t segment_alignment(at::ScalarType type, bool is_cuda) {
  if (is_cuda) return 8;
  return cpu_segment_rows(type == at::kBFloat16);
}

at::Tensor run_experts(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights, Place place,
                       ExpertSaving saving) {
  return run_experts(residual_TD, routing.x_TD, routing.weights_TK, routing.indices_TK, weights, place, saving);
}

at::Tensor run_experts(const at::Tensor& residual_TD, const at::Tensor& x_TD, const at::Tensor& weights_TK,
                       const at::Tensor& indices_TK, const ExpertWeights& weights, Place place, ExpertSaving saving) {
  return ExpertsFunction::apply(residual_TD, x_TD, weights_TK, indices_TK, weights, saving, place);
}

}  // namespace mmoe
