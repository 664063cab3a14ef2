#include "train/loop/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <optional>

#include "kernels/adamw/adamw.h"
#include "kernels/squared_norm/squared_norm.h"
#include "sim/formulas/parameter_specs.h"
#include "train/ops/parallel.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

namespace {

constexpr double kEpsilon = 1e-8;

// Joins neighbours and cuts at the borders of the sections.
std::vector<FlatRange> by_section(const ParameterStore& parameters, const std::vector<FlatRange>& ranges) {
  std::vector<FlatRange> result;
  for (const Section& section : parameters.sections()) {
    const size_t first = result.size();
    for (const FlatRange& range : ranges) {
      const FlatRange common{std::max(range.begin, section.range.begin), std::min(range.end, section.range.end)};
      if (common.size() <= 0) continue;
      if (result.size() > first && result.back().end == common.begin) {
        result.back().end = common.end;
      } else {
        result.push_back(common);
      }
    }
  }
  return result;
}

// `ranges` less what frozen tensors take of them.
std::vector<FlatRange> trained(const ParameterStore& parameters, const TrainingConfig& training,
                               const std::vector<FlatRange>& ranges) {
  if (training.freeze.empty()) return ranges;
  std::vector<FlatRange> result;
  for (FlatRange range : ranges) {
    for (const HeldElements& held : parameters.held()) {  // in the order of the buffers
      if (!training.freezes(parameter_part(held.parameter->name))) continue;
      const int64_t begin = held.first, end = begin + padded_elements({held.elements.size()});
      if (end <= range.begin || begin >= range.end) continue;
      if (begin > range.begin) result.push_back({range.begin, begin});
      range.begin = std::min(end, range.end);
    }
    if (range.size() > 0) result.push_back(range);
  }
  return result;
}

ParameterGroup group_of(const ParameterStore& parameters, const FlatRange& range) {
  const auto section = std::find_if(parameters.sections().begin(), parameters.sections().end(),
                                    [&](const Section& s) { return range.begin < s.range.end; });
  return section->group;
}

}  // namespace

AdamW::AdamW(ParameterStore& parameters, const TrainingConfig& training, const std::vector<FlatRange>& owned)
    : parameters_(parameters),
      training_(training),
      owned_(by_section(parameters, trained(parameters, training, owned))),
      first_moment_(at::zeros({num_elements(owned_)}, parameters.master().options())),
      second_moment_(at::zeros_like(first_moment_)),
      step_(at::zeros({1}, parameters.master().options().dtype(at::kFloat))) {}

AdamW::AdamW(ParameterStore& parameters, const TrainingConfig& training)
    : AdamW(parameters, training, {{0, parameters.master().numel()}}) {}

at::Tensor AdamW::squared_gradient_norms() const {
  const OperationScope scope("gradient_norm", OperationPhase::kUpdate, {});
  const at::Tensor squares = at::zeros({kNumParameterGroups}, parameters_.grad().options());
  for (size_t i = 0; i < owned_.size();) {
    FlatRange joined = owned_[i];
    const ParameterGroup group = group_of(parameters_, joined);
    for (++i; i < owned_.size() && owned_[i].begin == joined.end; ++i) {
      if (group_of(parameters_, owned_[i]) != group) break;
      joined.end = owned_[i].end;
    }
    const at::Tensor grad = parameters_.grad(joined), sum = squares[static_cast<int64_t>(group)];
    if (grad.is_cpu()) {
      sum.add_(kernels::squared_norm_cpu(
          {.scalar = kernel_scalar(grad), .values = grad.data_ptr(), .num_values = grad.numel()}));
    } else {
      sum.add_(at::linalg_vector_norm(grad).square());
    }
  }
  return squares;
}

void AdamW::update(int64_t step, double rate, const at::Tensor& norm) {
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  std::optional<at::Tensor> divisor;
  if (training_.clip_norm > 0) divisor = (norm / training_.clip_norm).clamp_min(1).to(at::kFloat).view({1});
  const at::Tensor not_finite = at::isfinite(norm).logical_not().to(at::kFloat).view({1});
  int64_t moment = 0;
  for (const FlatRange& range : owned_) {
    const auto part = [&](const at::Tensor& flat, int64_t first) { return flat.narrow(0, first, range.size()); };
    const at::Tensor master = part(parameters_.master(), range.begin), grad = parameters_.grad(range);
    const at::Tensor first_moment = part(first_moment_, moment), second_moment = part(second_moment_, moment);
    const double decay = range.begin < parameters_.num_decayed() ? training_.weight_decay : 0;
    moment += range.size();
    if (!master.is_cpu()) {
      step_.fill_(static_cast<double>(earlier_updates_ + step));
      at::_fused_adamw_({master}, {grad}, {first_moment}, {second_moment}, {}, {step_}, rate, training_.beta1,
                        training_.beta2, decay, kEpsilon, /*amsgrad=*/false, /*maximize=*/false, divisor, not_finite);
    } else if (*not_finite.data_ptr<float>() == 0) {
      const at::Tensor values = parameters_.compute();
      kernels::AdamW args;
      args.scalar = kernel_scalar(values.defined() ? values : master);
      args.master = master.data_ptr();
      args.first_moment = first_moment.data_ptr();
      args.second_moment = second_moment.data_ptr();
      args.gradient = grad.data_ptr();
      if (values.defined()) args.value = part(values, range.begin).data_ptr();
      args.num_values = range.size();
      args.step = earlier_updates_ + step;
      if (divisor) args.gradient_divisor = *divisor->data_ptr<float>();
      args.rate = rate;
      args.beta1 = training_.beta1;
      args.beta2 = training_.beta2;
      args.decay = decay;
      args.epsilon = kEpsilon;
      kernels::adamw_cpu(args);
    }
  }
}

}  // namespace mmoe
