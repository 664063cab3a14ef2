#pragma once
// AdamW over the flat parameter buffers.

#include <ATen/core/Tensor.h>

#include <vector>

#include "sim/config/training_config.h"
#include "train/model/parameters.h"

namespace mmoe {

class AdamW {
 public:
  // Moments of zero, in the accumulate type, for the elements that `owned` names (rising, whole tensors or shares), but
  // not for tensors that training.freeze names: those are never updated, and their gradients count in no norm.
  AdamW(ParameterStore& parameters, const TrainingConfig& training, const std::vector<FlatRange>& owned);
  // For all elements that are not frozen.
  AdamW(ParameterStore& parameters, const TrainingConfig& training);

  // Sums of squares of the owned gradients by ParameterGroup, [kNumParameterGroups] on the device.
  at::Tensor squared_gradient_norms() const;

  // One update with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) with the gradients divided by
  // max(1, norm / clip_norm), rounded to fp32; none where the norm is not finite. `norm` is that of the whole gradient,
  // one element on the device; `step` counts from 1. On the CPU kernels/adamw, which writes the compute-type weights
  // of the owned elements too; elsewhere LibTorch's fused kernel, which leaves them to
  // ParameterStore::refresh_compute_weights. The gradients may be the divided ones afterwards.
  void update(int64_t step, double rate, const at::Tensor& norm);

  // Updates that made the moments before this run's first step: the correction of their bias goes on from there.
  void set_earlier_updates(int64_t updates) { earlier_updates_ = updates; }

  // Elements of the flat buffers that the moments belong to, one range after another.
  const std::vector<FlatRange>& owned() const { return owned_; }
  const at::Tensor& first_moment() const { return first_moment_; }    // [owned elements]
  const at::Tensor& second_moment() const { return second_moment_; }  // [owned elements]

 private:
  ParameterStore& parameters_;
  TrainingConfig training_;
  std::vector<FlatRange> owned_;  // each within one section
  at::Tensor first_moment_, second_moment_;
  at::Tensor step_;  // one element
  int64_t earlier_updates_ = 0;
};

}  // namespace mmoe
