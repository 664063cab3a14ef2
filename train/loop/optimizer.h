#pragma once
// AdamW over the flat parameter buffers.

#include <ATen/core/Tensor.h>

#include <vector>

#include "sim/config/training_config.h"
#include "train/model/parameters.h"

namespace mmoe {

class AdamW {
 public:
  // Moments of zero, in the accumulate type.
  AdamW(ParameterStore& parameters, const TrainingConfig& training);

  // Euclidean norm of the whole gradient.
  double gradient_norm() const;

  // One update with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) of LibTorch's fused kernel,
  // after multiplying the gradients by min(1, clip_norm / norm). `step` counts from 1.
  void update(int64_t step, double rate, double norm);

  const at::Tensor& first_moment() const { return first_moment_; }    // [N]
  const at::Tensor& second_moment() const { return second_moment_; }  // [N]

 private:
  ParameterStore& parameters_;
  TrainingConfig training_;
  at::Tensor first_moment_, second_moment_;
  at::Tensor step_;  // one element
};

}  // namespace mmoe
