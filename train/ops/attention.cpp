#include "train/ops/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "kernels/attention/attention.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/rope/rope_cuda.h"
#endif
#include "sim/memory/cpu_products.h"
#include "train/ops/context_exchange.h"
#include "train/ops/gemm.h"
#include "train/ops/launch.h"
#include "train/ops/parallel.h"
#include "train/ops/saved_state.h"
#include "train/ops/split_tokens.h"

namespace mmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void rotate(const at::Tensor& qkv_TC, const RopeTable& table, const AttentionShape& shape,
            kernels::RopeDirection direction) {
  kernels::Rope args;
  args.scalar = kernel_scalar(qkv_TC);
  args.x = qkv_TC.data_ptr();
  args.cos = table.cos.data_ptr();
  args.sin = table.sin.data_ptr();
  args.num_rows = qkv_TC.size(0);
  args.num_heads = shape.num_heads + 2 * shape.num_kv_heads;
  args.num_rotated_heads = shape.num_heads + shape.num_kv_heads;
  args.head_dim = shape.head_dim;
  args.seq_len = shape.seq_len;
  args.direction = direction;
  MMOE_LAUNCH(qkv_TC, rope, args);
}

struct ProjectQkvFunction : torch::autograd::Function<ProjectQkvFunction> {
  struct State {
    at::Tensor x_TD;
    at::Tensor unnormed_TM;           // queries and keys before their norm; M = (H + G) h
    at::Tensor query_rstd, key_rstd;  // [T, H] and [T, G] per head, [T, 1] full
    QkvWeights weights;
    RopeTable rope;
    AttentionShape shape;  // with the heads of all context ranks, as this rank's own tokens have them
    AttentionShape attended;
    Place place;

    std::vector<int64_t> blocks() const {
      const int64_t key = shape.num_kv_heads * shape.head_dim;
      return {shape.num_heads * shape.head_dim, key, key};
    }
  };

  // One of the two norms: `heads` heads from column `first` on.
  struct Part {
    int64_t first, heads;
    const Parameter* weight;
    at::Tensor rstd;
  };
  static std::vector<Part> parts(const State& state) {
    const AttentionShape& shape = state.shape;
    return {{0, shape.num_heads, state.weights.query_norm, state.query_rstd},
            {shape.num_heads * shape.head_dim, shape.num_kv_heads, state.weights.key_norm, state.key_rstd}};
  }

  // Whether a norm runs over heads of which other ranks hold some.
  static bool norms_span_ranks(const State& state) {
    return state.weights.tensor != nullptr && state.shape.qk_norm == QkNorm::kFull;
  }

  // [T, 2], for queries and for keys: the sum over all ranks of what each gives.
  static at::Tensor sum_over_ranks(const State& state, const std::function<at::Tensor(const Part&)>& of_part) {
    const at::Tensor sums_T2 = at::empty({state.query_rstd.size(0), 2}, state.query_rstd.options());
    const std::vector<Part> both = parts(state);
    for (int64_t i = 0; i < 2; ++i) sums_T2.select(1, i).copy_(of_part(both[static_cast<size_t>(i)]));
    state.weights.tensor->all_reduce(sums_T2).wait();
    return sums_T2;
  }

  // The norm of rms_norm.h over the vectors of all ranks together.
  static void norm_over_ranks(const State& state, const at::Tensor& qkv_TC) {
    const auto unnormed = [&](const Part& part) {
      return state.unnormed_TM.narrow(1, part.first, part.heads * state.shape.head_dim).to(part.rstd.scalar_type());
    };
    const at::Tensor squares_T2 =
        sum_over_ranks(state, [&](const Part& part) { return unnormed(part).square().sum(1); });
    const std::vector<Part> both = parts(state);
    for (int64_t i = 0; i < 2; ++i) {
      const Part& part = both[static_cast<size_t>(i)];
      const auto size = static_cast<double>(part.heads * state.shape.head_dim * state.weights.tensor->size());
      part.rstd.copy_((squares_T2.narrow(1, i, 1) / size + state.shape.rms_norm_eps).rsqrt());
      at::Tensor y = unnormed(part) * part.rstd;
      y.mul_(part.weight->value);
      qkv_TC.narrow(1, part.first, y.size(1)).copy_(y);
    }
  }

  static void norm_over_ranks_backward(const State& state, const at::Tensor& d_qkv_TC) {
    const int64_t head_dim = state.shape.head_dim;
    const auto normed = [&](const Part& part) {  // x rstd
      return state.unnormed_TM.narrow(1, part.first, part.heads * head_dim) * part.rstd;
    };
    const auto gradient = [&](const Part& part) { return d_qkv_TC.narrow(1, part.first, part.heads * head_dim); };
    const at::Tensor dots_T2 = sum_over_ranks(state, [&](const Part& part) {
      at::Tensor product = normed(part);
      return product.mul_(gradient(part)).mul_(part.weight->value).sum(1);
    });
    const std::vector<Part> both = parts(state);
    for (int64_t i = 0; i < 2; ++i) {
      const Part& part = both[static_cast<size_t>(i)];
      const auto size = static_cast<double>(part.heads * head_dim * state.weights.tensor->size());
      at::Tensor h = normed(part);
      at::Tensor dy = gradient(part);
      at::Tensor(summed_gradient(*part.weight)).add_((h * dy).sum(0));
      const at::Tensor scaled = h.mul_(dots_T2.narrow(1, i, 1) / size);
      dy.copy_((dy * part.weight->value.to(part.rstd.scalar_type())).sub_(scaled).mul_(part.rstd));
    }
  }

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_TD, const QkvWeights& weights,
                            const RopeTable& rope, const AttentionShape& attended, Place place) {
    const OperationScope scope("qkv", OperationPhase::kForward, place);
    AttentionShape shape = attended;
    if (weights.context != nullptr) {
      shape.num_heads *= weights.context->size();
      shape.num_kv_heads *= weights.context->size();
    }
    const at::Tensor weight_DC = weights.projection_CD->value.t();
    at::Tensor qkv_TC = weights.bias_C == nullptr
                            ? product(gather_tokens(x_TD, weights.tensor), weight_DC)
                            : sum_with_product(weights.bias_C->value, gather_tokens(x_TD, weights.tensor), weight_DC);
    State state{x_TD.detach(), {}, {}, {}, weights, rope, shape, attended, place};
    if (shape.qk_norm != QkNorm::kNone) {
      const bool per_head = shape.qk_norm == QkNorm::kPerHead;
      const int64_t tokens = qkv_TC.size(0);
      const auto options = x_TD.options().dtype(accumulate_type(x_TD.scalar_type()));
      state.unnormed_TM = qkv_TC.narrow(1, 0, (shape.num_heads + shape.num_kv_heads) * shape.head_dim).contiguous();
      state.query_rstd = at::empty({tokens, per_head ? shape.num_heads : 1}, options);
      state.key_rstd = at::empty({tokens, per_head ? shape.num_kv_heads : 1}, options);
      if (norms_span_ranks(state)) norm_over_ranks(state, qkv_TC);
      for (const Part& part : norms_span_ranks(state) ? std::vector<Part>() : parts(state)) {
        kernels::RmsNormForward args;
        args.scalar = kernel_scalar(x_TD);
        args.x = state.unnormed_TM.narrow(1, part.first, 1).data_ptr();
        args.weight = part.weight->value.data_ptr();
        args.y = qkv_TC.narrow(1, part.first, 1).data_ptr();
        args.rstd = part.rstd.data_ptr();
        args.num_vectors = part.rstd.numel();
        args.vectors_per_row = part.rstd.size(1);
        args.size = part.heads * shape.head_dim / args.vectors_per_row;
        args.x_stride = state.unnormed_TM.size(1);
        args.y_stride = qkv_TC.size(1);
        args.epsilon = shape.rms_norm_eps;
        MMOE_LAUNCH(x_TD, rms_norm_forward, args);
      }
    }
    qkv_TC = tokens_to_heads(std::move(qkv_TC), state.blocks(), weights.context);
    rotate(qkv_TC, rope, attended, kernels::RopeDirection::kForward);
    keep_state(context, std::move(state));
    return qkv_TC;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("qkv", OperationPhase::kBackward, state.place);
    at::Tensor d_qkv_TC = std::exchange(grads[0], {});
    rotate(d_qkv_TC, state.rope, state.attended, kernels::RopeDirection::kInverse);
    d_qkv_TC = heads_to_tokens(std::move(d_qkv_TC), state.blocks(), state.weights.context);
    if (state.unnormed_TM.defined()) {
      if (norms_span_ranks(state)) norm_over_ranks_backward(state, d_qkv_TC);
      for (const Part& part : norms_span_ranks(state) ? std::vector<Part>() : parts(state)) {
        kernels::RmsNormBackward args;
        args.scalar = kernel_scalar(d_qkv_TC);
        args.dy = args.dx = d_qkv_TC.narrow(1, part.first, 1).data_ptr();
        args.x = state.unnormed_TM.narrow(1, part.first, 1).data_ptr();
        args.weight = part.weight->value.data_ptr();
        args.rstd = part.rstd.data_ptr();
        args.d_weight = summed_gradient(*part.weight).data_ptr();
        args.num_vectors = part.rstd.numel();
        args.vectors_per_row = part.rstd.size(1);
        args.size = part.heads * state.shape.head_dim / args.vectors_per_row;
        args.dy_stride = args.dx_stride = d_qkv_TC.size(1);
        args.x_stride = state.unnormed_TM.size(1);
        const at::Tensor workspace = MMOE_WORKSPACE(d_qkv_TC, rms_norm_backward, args);
        args.workspace = address(workspace);
        MMOE_LAUNCH(d_qkv_TC, rms_norm_backward, args);
      }
    }
    if (state.weights.bias_C != nullptr) {
      at::Tensor grad = summed_gradient(*state.weights.bias_C);
      grad.add_(d_qkv_TC.sum(0, false, grad.scalar_type()));
    }
    add_weight_gradient(*state.weights.projection_CD, d_qkv_TC, gather_tokens(state.x_TD, state.weights.tensor));
    return {scatter_sum(product(d_qkv_TC, state.weights.projection_CD->value), state.weights.tensor), {}, {}, {}, {}};
  }
};

struct AttendFunction : torch::autograd::Function<AttendFunction> {
  struct State {
    at::Tensor query, key, value;  // [B, heads, S, h] leaves of LibTorch's own small graph
    at::Tensor out;                // its result
    AttentionShape shape;
    Place place;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_TC, const AttentionShape& shape,
                            Place place) {
    const OperationScope scope("attention", OperationPhase::kForward, place);
    const bool recorded = qkv_TC.requires_grad();
    const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads;
    const at::Tensor fused =
        qkv_TC.detach().view({-1, shape.seq_len, heads + 2 * kv_heads, shape.head_dim}).transpose(1, 2);
    const auto leaf = [&](int64_t first, int64_t count) {
      at::Tensor part = fused.narrow(1, first, count);
      part.set_requires_grad(recorded);
      return part;
    };
    State state{leaf(0, heads), leaf(heads, kv_heads), leaf(heads + kv_heads, kv_heads), {}, shape, place};
    {
      const at::AutoGradMode grad_mode(recorded);
      state.out = at::scaled_dot_product_attention(state.query, state.key, state.value, {}, 0, /*is_causal=*/true,
                                                   std::nullopt, /*enable_gqa=*/heads != kv_heads);
    }
    const at::Tensor out_TA = state.out.detach().transpose(1, 2).reshape({-1, heads * shape.head_dim});
    keep_state(context, std::move(state));
    return out_TA;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    State state = take_state<State>(context);
    const OperationScope scope("attention", OperationPhase::kBackward, state.place);
    const AttentionShape& shape = state.shape;
    const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads;
    const at::Tensor d_out = grads[0].view({-1, shape.seq_len, heads, shape.head_dim}).transpose(1, 2);
    const variable_list d_parts =
        torch::autograd::grad({std::exchange(state.out, {})}, {state.query, state.key, state.value}, {d_out});
    const at::Tensor d_qkv = at::empty({grads[0].size(0), (heads + 2 * kv_heads) * shape.head_dim}, d_out.options());
    const at::Tensor fused = d_qkv.view({-1, shape.seq_len, heads + 2 * kv_heads, shape.head_dim}).transpose(1, 2);
    fused.narrow(1, 0, heads).copy_(d_parts[0]);
    fused.narrow(1, heads, kv_heads).copy_(d_parts[1]);
    fused.narrow(1, heads + kv_heads, kv_heads).copy_(d_parts[2]);
    return {d_qkv, {}, {}};
  }
};

struct AttendByKernelFunction : torch::autograd::Function<AttendByKernelFunction> {
  struct State {
    at::Tensor qkv_TC, out_TA;
    at::Tensor log_sum_exp_HT;
    std::vector<int64_t> starts;  // of the sequences or documents, and T
    AttentionShape shape;
    Place place;

    kernels::AttentionShapes shapes() const {
      return {.scalar = kernel_scalar(qkv_TC),
              .starts = starts.data(),
              .num_sequences = static_cast<int64_t>(starts.size()) - 1,
              .num_heads = shape.num_heads,
              .num_kv_heads = shape.num_kv_heads,
              .head_dim = shape.head_dim};
    }
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_TC, std::vector<int64_t> starts,
                            const AttentionShape& shape, Place place) {
    const OperationScope scope("attention", OperationPhase::kForward, place);
    const int64_t tokens = qkv_TC.size(0);
    const at::Tensor out_TA = at::empty({tokens, shape.num_heads * shape.head_dim}, qkv_TC.options());
    State state{qkv_TC.detach(), out_TA, {}, std::move(starts), shape, place};
    state.log_sum_exp_HT = at::empty({shape.num_heads, tokens}, qkv_TC.options().dtype(at::kFloat));
    if (!qkv_TC.is_meta()) {
      kernels::attention_forward_cpu(
          {state.shapes(), qkv_TC.data_ptr(), out_TA.data_ptr(), state.log_sum_exp_HT.data_ptr()});
    }
    keep_state(context, std::move(state));
    return out_TA.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("attention", OperationPhase::kBackward, state.place);
    const at::Tensor d_out_TA = grads[0].contiguous(), d_qkv_TC = at::empty_like(state.qkv_TC);
    if (!d_out_TA.is_meta()) {
      kernels::attention_backward_cpu({state.shapes(), state.qkv_TC.data_ptr(), state.out_TA.data_ptr(),
                                       state.log_sum_exp_HT.data_ptr(), d_out_TA.data_ptr(), d_qkv_TC.data_ptr()});
    }
    return {d_qkv_TC, {}, {}, {}};
  }
};

struct AttendDocumentsFunction : torch::autograd::Function<AttendDocumentsFunction> {
  struct Document {
    at::Tensor query, key, value;  // [1, heads, length, h] leaves of LibTorch's own small graph
    at::Tensor out;                // its result
    int64_t first, length;
  };
  struct State {
    std::vector<Document> documents;
    AttentionShape shape;
    Place place;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_TC,
                            const std::vector<int64_t>& document_lengths, const AttentionShape& shape, Place place) {
    const OperationScope scope("attention", OperationPhase::kForward, place);
    const bool recorded = qkv_TC.requires_grad();
    const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads, tokens = qkv_TC.size(0);
    const at::Tensor fused = qkv_TC.detach().view({1, tokens, heads + 2 * kv_heads, shape.head_dim}).transpose(1, 2);
    const at::Tensor out_TA = at::empty({tokens, heads * shape.head_dim}, fused.options());
    State state{{}, shape, place};
    int64_t first = 0;
    for (const int64_t length : document_lengths) {
      const auto leaf = [&](int64_t head, int64_t count) {
        at::Tensor part = fused.narrow(1, head, count).narrow(2, first, length);
        part.set_requires_grad(recorded);
        return part;
      };
      Document document{leaf(0, heads), leaf(heads, kv_heads), leaf(heads + kv_heads, kv_heads), {}, first, length};
      {
        const at::AutoGradMode grad_mode(recorded);
        document.out =
            at::scaled_dot_product_attention(document.query, document.key, document.value, {}, 0, /*is_causal=*/true,
                                             std::nullopt, /*enable_gqa=*/heads != kv_heads);
      }
      out_TA.narrow(0, first, length)
          .view({1, length, heads, shape.head_dim})
          .copy_(document.out.detach().transpose(1, 2));
      if (recorded) state.documents.push_back(std::move(document));
      first += length;
    }
    keep_state(context, std::move(state));
    return out_TA;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    State state = take_state<State>(context);
    const OperationScope scope("attention", OperationPhase::kBackward, state.place);
    const int64_t heads = state.shape.num_heads, kv_heads = state.shape.num_kv_heads, tokens = grads[0].size(0);
    const at::Tensor d_out = grads[0].view({1, tokens, heads, state.shape.head_dim}).transpose(1, 2);
    const at::Tensor d_qkv = at::empty({tokens, (heads + 2 * kv_heads) * state.shape.head_dim}, d_out.options());
    const at::Tensor fused = d_qkv.view({1, tokens, heads + 2 * kv_heads, state.shape.head_dim}).transpose(1, 2);
    for (Document& document : state.documents) {
      const auto rows = [&](const at::Tensor& x) { return x.narrow(2, document.first, document.length); };
      const variable_list d_parts = torch::autograd::grad(
          {std::exchange(document.out, {})}, {document.query, document.key, document.value}, {rows(d_out)});
      rows(fused.narrow(1, 0, heads)).copy_(d_parts[0]);
      rows(fused.narrow(1, heads, kv_heads)).copy_(d_parts[1]);
      rows(fused.narrow(1, heads + kv_heads, kv_heads)).copy_(d_parts[2]);
    }
    return {d_qkv, {}, {}, {}};
  }
};

struct ProjectOutputFunction : torch::autograd::Function<ProjectOutputFunction> {
  struct State {
    at::Tensor attended_TA;
    const Parameter* weight;
    const Communicator *tensor, *context_group;
    Place place;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual_TD, const at::Tensor& attended_TA,
                            const Parameter* weight, const Communicator* tensor, const Communicator* context_group,
                            Place place) {
    const OperationScope scope("attention_output", OperationPhase::kForward, place);
    const at::Tensor own_TA = heads_to_tokens(attended_TA.detach(), {weight->value.size(1)}, context_group);
    keep_state(context, State{own_TA, weight, tensor, context_group, place});
    return add_product(residual_TD, own_TA, weight->value, tensor);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const State state = take_state<State>(context);
    const OperationScope scope("attention_output", OperationPhase::kBackward, state.place);
    const at::Tensor d_out_TD = gather_tokens(grads[0], state.tensor);
    add_weight_gradient(*state.weight, d_out_TD, state.attended_TA);
    const at::Tensor d_attended_TA =
        tokens_to_heads(product(d_out_TD, state.weight->value), {state.weight->value.size(1)}, state.context_group);
    return {grads[0], d_attended_TA, {}, {}, {}, {}};
  }
};

static_assert(kernels::kMostHeadDim == kMostKernelHeadDim);
bool attends_by_kernel(const at::Tensor& qkv_TC, const AttentionShape& shape) {
  const at::ScalarType type = qkv_TC.scalar_type();
  return !runs_on_gpu(qkv_TC) && (type == at::kFloat || type == at::kBFloat16) &&
         shape.head_dim <= kMostKernelHeadDim && cpu_attention() == CpuProducts::kKernel;
}

}  // namespace

RopeTable make_rope_table(double theta, int64_t seq_len, int64_t head_dim, at::ScalarType type, c10::Device device) {
  const auto options = at::TensorOptions().dtype(accumulate_type(type));
  const at::Tensor cos = at::empty({seq_len, head_dim / 2}, options), sin = at::empty({seq_len, head_dim / 2}, options);
  kernels::rope_fill_table(kernel_scalar(cos), theta, seq_len, head_dim, cos.data_ptr(), sin.data_ptr());
  return {cos.to(device), sin.to(device)};
}

at::Tensor project_qkv(const at::Tensor& x_TD, const QkvWeights& weights, const RopeTable& rope,
                       const AttentionShape& shape, Place place) {
  return ProjectQkvFunction::apply(x_TD, weights, rope, shape, place);
}

at::Tensor attend(const at::Tensor& qkv_TC, const AttentionShape& shape, Place place) {
  if (!attends_by_kernel(qkv_TC, shape)) return AttendFunction::apply(qkv_TC, shape, place);
  std::vector<int64_t> starts;
  for (int64_t first = 0; first <= qkv_TC.size(0); first += shape.seq_len) starts.push_back(first);
  return AttendByKernelFunction::apply(qkv_TC, std::move(starts), shape, place);
}

at::Tensor attend_documents(const at::Tensor& qkv_TC, const std::vector<int64_t>& document_lengths,
                            const AttentionShape& shape, Place place) {
  std::vector<int64_t> starts = {0};
  for (const int64_t length : document_lengths) starts.push_back(starts.back() + length);
  MMOE_CHECK(starts.back() == qkv_TC.size(0))
      << "documents of " << starts.back() << " tokens, " << qkv_TC.size(0) << " in the batch";
  if (!attends_by_kernel(qkv_TC, shape)) {
    return AttendDocumentsFunction::apply(qkv_TC, document_lengths, shape, place);
  }
  return AttendByKernelFunction::apply(qkv_TC, std::move(starts), shape, place);
}

at::Tensor attend_cached(const at::Tensor& qkv_TC, const AttentionShape& shape, const KeysAndValues& past,
                         int64_t length) {
  const int64_t heads = shape.num_heads, kv_heads = shape.num_kv_heads, tokens = qkv_TC.size(0);
  MMOE_CHECK(tokens == 1 || length == 0) << tokens << " tokens behind " << length;
  MMOE_CHECK(length + tokens <= past.key_GSh.size(1)) << "beyond the cache of " << past.key_GSh.size(1);
  const at::Tensor fused = qkv_TC.view({tokens, heads + 2 * kv_heads, shape.head_dim}).transpose(0, 1);
  past.key_GSh.narrow(1, length, tokens).copy_(fused.narrow(0, heads, kv_heads));
  past.value_GSh.narrow(1, length, tokens).copy_(fused.narrow(0, heads + kv_heads, kv_heads));
  const auto so_far = [&](const at::Tensor& x_GSh) { return x_GSh.narrow(1, 0, length + tokens).unsqueeze(0); };
  const at::Tensor out = at::scaled_dot_product_attention(
      fused.narrow(0, 0, heads).unsqueeze(0), so_far(past.key_GSh), so_far(past.value_GSh), {}, 0,
      /*is_causal=*/tokens > 1, std::nullopt, /*enable_gqa=*/heads != kv_heads);
  return out.squeeze(0).transpose(0, 1).reshape({tokens, heads * shape.head_dim});
}

at::Tensor project_output(const at::Tensor& residual_TD, const at::Tensor& attended_TA, const Parameter& weight_DA,
                          Place place, const Communicator* tensor, const Communicator* context) {
  return ProjectOutputFunction::apply(residual_TD, attended_TA, &weight_DA, tensor, context, place);
}

}  // namespace mmoe
