#include "train/loop/trainer.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>

#include "train/loop/learning_rate.h"
#include "train/profiling/memory_meter.h"

namespace mmoe {
namespace {

// Fails with the cause rather than training on with garbage.
void check_finite(double value, const char* what, int64_t step) {
  if (std::isfinite(value)) return;
  throw std::runtime_error(std::string(what) + " became " + (std::isnan(value) ? "NaN" : "infinite") + " in step " +
                           std::to_string(step) +
                           "; resume from the last checkpoint with a lower training.learning_rate or clip_norm");
}

}  // namespace

Trainer::Trainer(const Job& job, c10::Device device)
    : job_(job),
      device_(device),
      transformer_(job, device, Gradients::kAllocated),
      optimizer_(transformer_.parameters(), job.training) {
  if (job.elastic.sampling != Sampling::kTopP && job.model.num_moe_layers() > 0) {
    sampler_.emplace(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  }
}

std::vector<std::vector<int>> Trainer::draw(int64_t step) const {
  std::vector<std::vector<int>> k;
  for (int64_t j = 0; j < job_.num_micro_batches(); ++j) {
    k.push_back(sampler_ ? sampler_->draw(job_.training.seed, step, j)
                         : std::vector<int>(job_.model.num_moe_layers(), job_.elastic.k_max));
  }
  return k;
}

StepResult Trainer::run_step(int64_t step, int64_t total_steps, const Batches& batches) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t samples = job_.training.global_batch_size, seq_len = job_.training.seq_len;
  const at::Tensor tokens = at::empty({samples, seq_len}, at::kInt), targets = at::empty({samples, seq_len}, at::kInt);
  for (int64_t r = 0; r < samples; ++r) {
    batches.sample((step - 1) * samples + r, tokens.data_ptr<int32_t>() + r * seq_len,
                   targets.data_ptr<int32_t>() + r * seq_len);
  }
  const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - start;
  StepResult result = run_step(step, total_steps, tokens, targets, draw(step));
  result.seconds += loading.count();
  return result;
}

StepResult Trainer::run_step(int64_t step, int64_t total_steps, const at::Tensor& tokens, const at::Tensor& targets,
                             const std::vector<std::vector<int>>& k_per_layer) {
  const auto start = std::chrono::steady_clock::now();
  reset_peak_bytes(device_);
  const TrainingConfig& training = job_.training;
  const int64_t rows = training.micro_batch_size;
  const auto micro_batches = static_cast<int64_t>(k_per_layer.size());
  const auto global_tokens = static_cast<double>(tokens.numel());
  const auto num_moe_layers = static_cast<double>(job_.model.num_moe_layers());

  StepResult result;
  result.step = step;
  transformer_.parameters().zero_gradients();
  for (int64_t j = 0; j < micro_batches; ++j) {
    const at::Tensor tokens_T = tokens.narrow(0, j * rows, rows).reshape({-1}).to(device_);
    const at::Tensor targets_T = targets.narrow(0, j * rows, rows).reshape({-1}).to(device_);
    TrainingForward forward = transformer_.training_forward(tokens_T, targets_T, k_per_layer[j], 1 / global_tokens,
                                                            1 / static_cast<double>(micro_batches));
    torch::autograd::backward({forward.loss}, {});
    result.loss += forward.loss.item<double>();
    std::vector<double> k(k_per_layer[j].begin(), k_per_layer[j].end());
    for (size_t l = 0; l < forward.routing.size(); ++l) {
      const LayerRouting& routing = forward.routing[l];
      const double share = 1 / (num_moe_layers * static_cast<double>(micro_batches));
      result.load_balance_loss += routing.load_balance_loss.item<double>() * share;
      result.z_loss += routing.z_loss.item<double>() * share;
      if (!sampler_) k[l] = routing.counts_E.sum().item<double>() / static_cast<double>(tokens_T.numel());
    }
    result.k_per_layer.push_back(std::move(k));
  }
  check_finite(result.loss, "the loss", step);
  result.grad_norm = optimizer_.gradient_norm();
  check_finite(result.grad_norm, "the gradient norm", step);
  result.learning_rate = learning_rate(training, step, total_steps);
  optimizer_.update(step, result.learning_rate, result.grad_norm);
  result.peak_allocated_bytes = peak_allocated_bytes(device_);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace mmoe
