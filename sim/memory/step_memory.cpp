#include "sim/memory/step_memory.h"

#include <algorithm>

#include "sim/formulas/parameter_counts.h"
#include "sim/formulas/parameter_specs.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Keeps the highest of several moments.
class HighestMoment {
 public:
  void offer(double kept, const BytesByCause& above, const std::string& moment) {
    BytesByCause bytes = above;
    bytes[static_cast<int>(MemoryCause::kActivations)] += kept;
    if (sum_of(bytes) <= sum_of(bytes_)) return;
    bytes_ = bytes;
    moment_ = moment;
  }
  const BytesByCause& bytes() const { return bytes_; }
  const std::string& moment() const { return moment_; }

 private:
  BytesByCause bytes_{};
  std::string moment_ = "optimizer";
};

}  // namespace

PersistentMemory persistent_memory(const Job& job) {
  const double parameters = parameter_counts(job.model).total();
  const double a = accumulate_bytes(job.training.precision), b = compute_bytes(job.training.precision);
  const TrainingConfig& training = job.training;
  PersistentMemory memory;
  memory.weights = Bytes{parameters * (a == b ? a : a + b)};
  memory.gradients = Bytes{parameters * a};
  memory.optimizer = Bytes{(parameters - frozen_parameters(job.model, training)) * 2 * a};
  const double tokens = static_cast<double>(training.global_batch_size * training.seq_len);
  memory.buffers = Bytes{static_cast<double>(training.seq_len * job.model.head_dim) * a + 2 * 4 * tokens};
  return memory;
}

StepPeak step_peak(const Job& job, const std::vector<int>& k_per_layer) {
  MMOE_CHECK(static_cast<int64_t>(k_per_layer.size()) == job.model.num_moe_layers()) << "one k for every MoE layer";
  const double persistent = persistent_memory(job).total().value;
  HighestMoment highest;
  double kept = residual_bytes(job);
  const auto k_of = [&](int64_t layer) {
    return job.model.is_moe_layer(layer) ? k_per_layer[layer - job.model.num_dense_layers] : 0;
  };
  for (int64_t layer = 0; layer < job.model.num_layers; ++layer) {
    const LayerMemory memory = layer_memory(job, layer, k_of(layer));
    const std::string name = "layer " + std::to_string(layer);
    highest.offer(kept, memory.forward_peak, name + " forward");
    highest.offer(kept, memory.backward_peak, name + " backward");
    kept += memory.kept;
  }
  highest.offer(kept, loss_head_peak(job), "loss head");
  const BytesByCause& bytes = highest.bytes();
  const auto part = [&](MemoryCause cause) { return Bytes{bytes[static_cast<int>(cause)]}; };
  return {Bytes{persistent + sum_of(bytes)}, part(MemoryCause::kActivations), part(MemoryCause::kLogits),
          part(MemoryCause::kWorkspace), highest.moment()};
}

}  // namespace mmoe
