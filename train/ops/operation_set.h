#pragma once
// The operations of a layer that exist twice: around the kernels, and in plain LibTorch operators that autograd
// differentiates, to compare (training.operations). Same arguments, results and gradients up to rounding.

#include "sim/config/training_config.h"
#include "train/ops/attention.h"
#include "train/ops/experts.h"
#include "train/ops/loss_head.h"
#include "train/ops/mlp.h"
#include "train/ops/norm.h"
#include "train/ops/router.h"

namespace mmoe {

struct Operations {
  at::Tensor (*embed)(const at::Tensor& tokens_T, const Parameter& weight_VD);
  Normed (*rms_norm)(const at::Tensor& x_TD, const Parameter& weight_D, double epsilon, Place place);
  at::Tensor (*project_qkv)(const at::Tensor& x_TD, const QkvWeights& weights, const RopeTable& rope,
                            const AttentionShape& shape, Place place);
  MlpResult (*run_mlp)(const at::Tensor& residual_TD, const at::Tensor& x_TD, const MlpWeights& weights,
                       const char* operation, Place place);
  Routing (*route)(const at::Tensor& x_TD, const Parameter& weight_ED, const RouterSettings& settings, Place place);
  at::Tensor (*run_experts)(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights,
                            Place place, ExpertSaving saving);
  LossHeadResult (*loss_head)(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T,
                              double scale);
  at::Tensor (*token_losses)(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T);
};

// Of kAten: one expert after another, without regard to memory. `saving` does not apply to it.
const Operations& operations(OperationSet set);

}  // namespace mmoe
