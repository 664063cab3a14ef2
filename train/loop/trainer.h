#pragma once
// One optimiser step: draws of k, micro-batches forward and backward, clipping, AdamW.

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/config/job.h"
#include "sim/elastic/sampler.h"
#include "train/data/batches.h"
#include "train/loop/optimizer.h"
#include "train/model/transformer.h"

namespace mmoe {

struct StepResult {
  int64_t step = 0;                          // from 1
  double loss = 0;                           // mean cross-entropy of the global batch, nats per token
  double load_balance_loss = 0, z_loss = 0;  // means over micro-batches and MoE layers, without coefficients
  double learning_rate = 0, grad_norm = 0;
  double seconds = 0;                            // data to optimiser
  std::vector<std::vector<double>> k_per_layer;  // [micro-batch][MoE layer]; means over tokens for top_p
  int64_t peak_allocated_bytes = 0;
};

class Trainer {
 public:
  Trainer(const Job& job, c10::Device device);

  // Runs step `step` (from 1) of `total_steps` on the samples that belong to it.
  StepResult run_step(int64_t step, int64_t total_steps, const Batches& batches);

  // The same with given k for every micro-batch and layer, and given tokens [global batch, S] (int32, on the CPU).
  StepResult run_step(int64_t step, int64_t total_steps, const at::Tensor& tokens, const at::Tensor& targets,
                      const std::vector<std::vector<int>>& k_per_layer);

  // k of every MoE layer in each micro-batch of a step; k_max everywhere for top_p.
  std::vector<std::vector<int>> draw(int64_t step) const;

  Transformer& transformer() { return transformer_; }
  AdamW& optimizer() { return optimizer_; }
  const Job& job() const { return job_; }

 private:
  Job job_;
  c10::Device device_;
  Transformer transformer_;
  AdamW optimizer_;
  std::optional<KSampler> sampler_;  // none for top_p and for models without MoE layers
};

}  // namespace mmoe
