#include "train/ops/operation_set.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <memory>

#include "train/ops/embedding.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum class WeightType { kCompute, kAccumulate };

// One operation in LibTorch's own small graph: a function of its inputs and of weights, whose gradients go where the
// kernels' backward passes put them.
struct AtenOperation {
  const char* name;
  Place place;
  std::vector<const Parameter*> weights;
  WeightType weight_type = WeightType::kCompute;
  std::function<variable_list(const variable_list& inputs, const variable_list& weights)> run;
  // Terms of the objective beside the outputs: added to by `run`; their gradient is 1.
  std::shared_ptr<variable_list> objective = std::make_shared<variable_list>();
};

struct AtenFunction : torch::autograd::Function<AtenFunction> {
  struct State {
    AtenOperation operation;
    variable_list inputs, weights, outputs;
  };

  static variable_list forward(AutogradContext* context, at::TensorList inputs, const AtenOperation& operation) {
    const OperationScope scope(operation.name, OperationPhase::kForward, operation.place);
    bool recorded = false;
    for (const at::Tensor& input : inputs) recorded |= input.requires_grad();
    const auto leaf = [&](const at::Tensor& tensor) {
      at::Tensor result = tensor.detach();
      result.set_requires_grad(recorded);
      return result;
    };
    State state{operation, {}, {}, {}};
    for (const at::Tensor& input : inputs) state.inputs.push_back(leaf(input));
    for (const Parameter* weight : operation.weights) {
      state.weights.push_back(leaf(operation.weight_type == WeightType::kCompute ? weight->value : weight->master));
    }
    {
      const at::AutoGradMode grad_mode(recorded);
      state.outputs = operation.run(state.inputs, state.weights);
    }
    variable_list results;
    for (const at::Tensor& output : state.outputs) results.push_back(output.detach());
    keep_state(context, std::move(state));
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope(state.operation.name, OperationPhase::kBackward, state.operation.place);
    variable_list outputs = *state.operation.objective, cotangents(outputs.size()), leaves = state.inputs;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      outputs.push_back(state.outputs[i]);
      cotangents.push_back(grads[i]);
    }
    leaves.insert(leaves.end(), state.weights.begin(), state.weights.end());
    variable_list gradients = torch::autograd::grad(outputs, leaves, cotangents, /*retain_graph=*/std::nullopt,
                                                    /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < state.weights.size(); ++i) {
      const at::Tensor& gradient = gradients[state.inputs.size() + i];
      if (gradient.defined()) at::Tensor(summed_gradient(*state.operation.weights[i])).add_(gradient);
    }
    gradients.resize(state.inputs.size());
    gradients.emplace_back();  // of the operation itself
    return gradients;
  }
};

variable_list apply(const variable_list& inputs, const AtenOperation& operation) {
  return AtenFunction::apply(at::TensorList(inputs), operation);
}

at::Tensor embed_aten(const at::Tensor& tokens_T, const Parameter& weight_VD) {
  // As in embed(): what makes autograd record the chain.
  at::Tensor value_VD = weight_VD.value.detach();
  value_VD.set_requires_grad(weight_VD.grad.defined());
  return apply({value_VD}, {.name = "embedding",
                            .place = {},
                            .weights = {&weight_VD},
                            .run = [tokens_T](const variable_list&, const variable_list& weights) -> variable_list {
                              return {at::embedding(weights[0], tokens_T)};
                            }})[0];
}

Normed rms_norm_aten(const at::Tensor& x_TD, const Parameter& weight_D, double epsilon, Place place) {
  const variable_list outputs =
      apply({x_TD}, {.name = "norm",
                     .place = place,
                     .weights = {&weight_D},
                     .run = [epsilon](const variable_list& x, const variable_list& weights) -> variable_list {
                       return {x[0], at::rms_norm(x[0], {x[0].size(-1)}, weights[0], epsilon)};
                     }});
  return {outputs[0], outputs[1]};
}

// x [T, heads, h], in the half-split convention.
at::Tensor rotated(const at::Tensor& x, const RopeTable& table, int64_t seq_len) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor cos = table.cos.view({1, seq_len, 1, half}), sin = table.sin.view({1, seq_len, 1, half});
  const at::Tensor wide = x.view({-1, seq_len, x.size(1), 2 * half}).to(cos.scalar_type());
  const at::Tensor low = wide.narrow(3, 0, half), high = wide.narrow(3, half, half);
  return at::cat({low * cos - high * sin, high * cos + low * sin}, 3).to(x.scalar_type()).view(x.sizes());
}

at::Tensor project_qkv_aten(const at::Tensor& x_TD, const QkvWeights& weights, const RopeTable& rope,
                            const AttentionShape& shape, Place place) {
  std::vector<const Parameter*> parameters = {weights.projection_CD};
  if (weights.bias_C != nullptr) parameters.push_back(weights.bias_C);
  if (shape.qk_norm != QkNorm::kNone) parameters.insert(parameters.end(), {weights.query_norm, weights.key_norm});
  const bool biased = weights.bias_C != nullptr;
  const auto run = [=](const variable_list& x, const variable_list& w) -> variable_list {
    const at::Tensor qkv_TC = biased ? at::addmm(w[1], x[0], w[0].t()) : at::mm(x[0], w[0].t());
    const int64_t query_size = shape.num_heads * shape.head_dim, key_size = shape.num_kv_heads * shape.head_dim;
    const auto part = [&](int64_t first, int64_t size, size_t norm) {
      at::Tensor part_T = qkv_TC.narrow(1, first, size);
      if (shape.qk_norm == QkNorm::kFull) part_T = at::rms_norm(part_T, {size}, w[norm], shape.rms_norm_eps);
      part_T = part_T.reshape({-1, size / shape.head_dim, shape.head_dim});
      if (shape.qk_norm == QkNorm::kPerHead) {
        part_T = at::rms_norm(part_T, {shape.head_dim}, w[norm], shape.rms_norm_eps);
      }
      return rotated(part_T, rope, shape.seq_len).reshape({-1, size});
    };
    return {at::cat({part(0, query_size, w.size() - 2), part(query_size, key_size, w.size() - 1),
                     qkv_TC.narrow(1, query_size + key_size, key_size)},
                    1)};
  };
  return apply({x_TD}, {.name = "qkv", .place = place, .weights = std::move(parameters), .run = run})[0];
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

MlpResult run_mlp_aten(const at::Tensor& residual_TD, const at::Tensor& x_TD, const MlpWeights& weights,
                       const char* operation, Place place) {
  std::vector<const Parameter*> parameters = {weights.gate_up, weights.down};
  if (weights.gate != nullptr) parameters.push_back(weights.gate);
  const auto run = [](const variable_list& in, const variable_list& w) -> variable_list {
    const at::Tensor out_TD = at::mm(swiglu(at::mm(in[1], w[0].t())), w[1].t());
    if (w.size() == 2) return {in[0] + out_TD, in[1]};
    return {in[0] + at::sigmoid(at::mm(in[1], w[2].t())) * out_TD, in[1]};
  };
  const variable_list outputs =
      apply({residual_TD, x_TD}, {.name = operation, .place = place, .weights = std::move(parameters), .run = run});
  return {outputs[0], outputs[1]};
}

Routing route_aten(const at::Tensor& x_TD, const Parameter& weight_ED, const RouterSettings& settings, Place place) {
  Routing routing;
  AtenOperation operation{
      .name = "router", .place = place, .weights = {&weight_ED}, .weight_type = WeightType::kAccumulate, .run = {}};
  operation.run = [&routing, settings, objective = operation.objective](const variable_list& x,
                                                                        const variable_list& w) -> variable_list {
    const at::Tensor logits_TE = at::mm(x[0].to(w[0].scalar_type()), w[0].t());
    const at::Tensor p_TE = logits_TE.softmax(-1);
    const auto [p_TK, index_TK] = p_TE.topk(settings.top_k);
    // Slot j is used while the slots before it have not reached top_p.
    const at::Tensor used_TK =
        settings.top_p > 0 ? (p_TK.cumsum(1) - p_TK).detach().lt(settings.top_p) : index_TK.ge(0);
    at::Tensor weights_TK = p_TK * used_TK;
    if (settings.normalization == kernels::GateNormalization::kSelected) {
      weights_TK = weights_TK / weights_TK.sum(1, /*keepdim=*/true);
    } else if (settings.normalization == kernels::GateNormalization::kReference) {
      weights_TK = weights_TK / std::get<0>(p_TE.topk(settings.k_reference)).sum(1, /*keepdim=*/true);
    }
    routing.indices_TK = index_TK.masked_fill(used_TK.logical_not(), -1).to(at::kInt);
    routing.counts_E = at::bincount(index_TK.masked_select(used_TK), {}, p_TE.size(1));
    const at::Tensor share_E = routing.counts_E.to(p_TE.scalar_type()) / routing.counts_E.sum();
    const at::Tensor load_balance = (share_E * p_TE.mean(0)).sum() * static_cast<double>(p_TE.size(1));
    const at::Tensor z = logits_TE.logsumexp(-1).square().mean();
    if (x[0].requires_grad()) {
      objective->push_back(load_balance * settings.load_balance_coefficient + z * settings.z_loss_coefficient);
    }
    routing.load_balance_loss = load_balance.detach().view({1});
    routing.z_loss = z.detach().view({1});
    if (settings.measure_entropy) routing.entropy = -(p_TE * logits_TE.log_softmax(-1)).detach().sum(1).mean();
    return {x[0], weights_TK};
  };
  const variable_list outputs = apply({x_TD}, operation);
  routing.x_TD = outputs[0];
  routing.weights_TK = outputs[1];
  return routing;
}

// Pairs sorted by expert, one expert after another, results added where their tokens are.
at::Tensor run_experts_aten(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights,
                            Place place, ExpertSaving /*saving*/) {
  const auto run = [indices_TK = routing.indices_TK](const variable_list& in, const variable_list& w) -> variable_list {
    const at::Tensor &residual = in[0], &x = in[1], &weights_TK = in[2];
    const int64_t experts = w[0].size(0);
    const at::Tensor expert_of_pair = indices_TK.view({-1}).to(at::kLong);
    const at::Tensor counts = at::bincount(expert_of_pair + 1, {}, experts + 1).cpu();  // first the unused slots
    const std::vector<int64_t> lengths(counts.data_ptr<int64_t>(), counts.data_ptr<int64_t>() + experts + 1);
    const at::Tensor pair_of_row =
        expert_of_pair.argsort(/*stable=*/true, 0, /*descending=*/false).slice(0, lengths[0]);
    const at::Tensor token_of_row = pair_of_row.floor_divide(indices_TK.size(1));
    const std::vector<at::Tensor> rows =
        x.index_select(0, token_of_row).split_with_sizes(at::IntArrayRef(lengths).slice(1));
    const std::vector<at::Tensor> gate_up = w[0].unbind(), down = w[1].unbind();
    variable_list results;
    for (size_t e = 0; e < rows.size(); ++e) {
      if (rows[e].size(0) > 0) results.push_back(at::mm(swiglu(at::mm(rows[e], gate_up[e].t())), down[e].t()));
    }
    if (results.empty()) return {residual};
    const at::Tensor scale_R1 = weights_TK.reshape({-1, 1}).index_select(0, pair_of_row);
    return {residual.index_add(0, token_of_row, (at::cat(results) * scale_R1).to(residual.scalar_type()))};
  };
  return apply({residual_TD, routing.x_TD, routing.weights_TK},
               {.name = "experts", .place = place, .weights = {weights.gate_up, weights.down}, .run = run})[0];
}

// Nats per token in the accumulate type; 0 where the target is negative.
at::Tensor losses_of(const at::Tensor& x_TD, const at::Tensor& weight_VD, const at::Tensor& targets_T) {
  constexpr int64_t kIgnored = -100;
  const at::Tensor index_T = targets_T.to(at::kLong).masked_fill(targets_T.lt(0), kIgnored);
  const at::Tensor logits_TV = at::mm(x_TD, weight_VD.t()).to(accumulate_type(x_TD.scalar_type()));
  return at::cross_entropy_loss(logits_TV, index_T, {}, at::Reduction::None, kIgnored);
}

LossHeadResult loss_head_aten(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T,
                              double scale) {
  at::Tensor losses_T;
  const auto run = [&](const variable_list& x, const variable_list& weights) -> variable_list {
    const at::Tensor losses = losses_of(x[0], weights[0], targets_T);
    losses_T = losses.detach();
    return {losses.sum() * scale};
  };
  const at::Tensor loss = apply({x_TD}, {.name = "loss_head", .place = {}, .weights = {&weight_VD}, .run = run})[0];
  return {loss, losses_T};
}

at::Tensor token_losses_aten(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T) {
  return losses_of(x_TD, weight_VD.value, targets_T);
}

at::Tensor run_experts_kernels(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights,
                               Place place, ExpertSaving saving) {
  return run_experts(residual_TD, routing, weights, place, saving);
}

}  // namespace

const Operations& operations(OperationSet set) {
  static constexpr Operations kKernels = {embed,     rms_norm,    project_qkv, run_mlp, route, run_experts_kernels,
                                          loss_head, token_losses};
  static constexpr Operations kAten = {embed_aten, rms_norm_aten,    project_qkv_aten, run_mlp_aten,
                                       route_aten, run_experts_aten, loss_head_aten,   token_losses_aten};
  return set == OperationSet::kAten ? kAten : kKernels;
}

}  // namespace mmoe
