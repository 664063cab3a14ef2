#include "train/loop/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "train/profiling/operation_scope.h"

namespace mmoe {

AdamW::AdamW(ParameterStore& parameters, const TrainingConfig& training)
    : parameters_(parameters),
      training_(training),
      first_moment_(at::zeros_like(parameters.master())),
      second_moment_(at::zeros_like(parameters.master())),
      step_(at::zeros({1}, parameters.master().options().dtype(at::kFloat))) {}

double AdamW::gradient_norm() const {
  const OperationScope scope("gradient_norm", OperationPhase::kUpdate, {});
  return at::linalg_vector_norm(parameters_.grad()).item<double>();
}

void AdamW::update(int64_t step, double rate, double norm) {
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  constexpr double kEpsilon = 1e-8;
  const double clip = training_.clip_norm > 0 && norm > training_.clip_norm ? training_.clip_norm / norm : 1;
  if (clip < 1) at::Tensor(parameters_.grad()).mul_(clip);
  const int64_t decayed = parameters_.num_decayed();
  const auto range = [&](const at::Tensor& flat, bool decay) {
    return decay ? flat.narrow(0, 0, decayed) : flat.narrow(0, decayed, flat.numel() - decayed);
  };
  for (const bool decay : {true, false}) {
    step_.fill_(static_cast<double>(step));
    at::_fused_adamw_({range(parameters_.master(), decay)}, {range(parameters_.grad(), decay)},
                      {range(first_moment_, decay)}, {range(second_moment_, decay)}, {}, {step_}, rate, training_.beta1,
                      training_.beta2, decay ? training_.weight_decay : 0, kEpsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  parameters_.refresh_compute_weights();
}

}  // namespace mmoe
