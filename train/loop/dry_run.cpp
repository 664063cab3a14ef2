#include "train/loop/dry_run.h"

#include <ATen/ops/zeros.h>

#include <chrono>
#include <memory>

#include "sim/network/rank_groups.h"
#include "sim/plan/stated_rows.h"
#include "sim/plan/trainer_memory.h"
#include "train/loop/trainer.h"
#include "train/ops/meta_kernels.h"
#include "train/ops/stand_in.h"
#include "train/parallel/counting_backend.h"
#include "train/profiling/meta_allocator.h"

namespace mmoe {
namespace {

// k of the ranks that share a rank's experts, in the like-numbered micro-batch of each one's replica.
class ExpertPeers {
 public:
  ExpertPeers(const Job& job, const ProcessGroups& groups, const std::vector<std::vector<int>>& k)
      : groups_(groups), k_(k), in_replica_(job.num_micro_batches()), first_moe_layer_(job.model.num_dense_layers) {}

  void begin(int64_t micro_batch) { index_ = micro_batch % in_replica_; }

  std::vector<int> k_at(int64_t layer) const {
    const RankGroups& layout = groups_.layout;
    const int64_t sharing = layout.expert.size * layout.expert_tensor.size, first = groups_.rank / sharing * sharing;
    std::vector<int> k;
    for (int64_t i = 0; i < sharing; ++i) {
      const int64_t replica = position_in(groups_.layout.data, first + i);
      k.push_back(k_[replica * in_replica_ + index_][layer - first_moe_layer_]);
    }
    return k;
  }

 private:
  const ProcessGroups& groups_;
  const std::vector<std::vector<int>>& k_;
  int64_t in_replica_, first_moe_layer_, index_ = 0;
};

TrafficByGroup as_predicted(const CountedMessages& messages) {
  TrafficByGroup traffic;
  for (const auto& [group, collectives] : messages.by_group) {
    for (int i = 0; i < kNumCollectiveCalls; ++i) {
      const Traffic& counted = collectives[static_cast<size_t>(i)];
      if (counted.calls > 0) traffic[group][name_of(static_cast<CollectiveCall>(i))] = {counted.calls, counted.bytes};
    }
  }
  return traffic;
}

DryRunMemory predicted_memory(const TrainerRankPeak& peak) {
  return {peak.weights.value, peak.gradients.value, peak.optimizer.value, peak.buffers.value,
          peak.total.value - peak.persistent().value};
}

}  // namespace

DryRun dry_run(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k) {
  const auto start = std::chrono::steady_clock::now();
  install_meta_allocator();
  install_meta_kernels();
  const bool is_gpu = !job.hardware.spec.is_cpu;
  const c10::Device device(c10::kMeta);
  const auto messages = std::make_shared<CountedMessages>();
  const ProcessGroups groups =
      make_groups(job, rank, [&](const char* name, int64_t /*first_rank*/, int position, int size) {
        // Layers wait for what tensor parallel ranks exchange.
        const SumsIn sums = is_gpu ? SumsIn::kPlace : SumsIn::kCopy;
        return counting_backend(name, position, size, sums, messages);
      });
  ExpertPeers peers(job, groups, k);
  const StandInScope scope({.is_gpu = is_gpu,
                            .own_share = stated_share(job, rank),
                            .k_of_expert_ranks = [&peers](int64_t layer) { return peers.k_at(layer); }});

  DryRun result;
  result.rank = rank;
  result.stage = groups.stage();
  const int64_t base = meta_bytes();
  Trainer trainer(job, device, groups);
  trainer.before_passes([&peers](int64_t micro_batch) { peers.begin(micro_batch); });
  // A GPU's trainer keeps the step's tokens on the host and copies those of a micro-batch.
  const int64_t samples = job.training.global_batch_size / job.data_parallel_size();
  const auto ints = at::TensorOptions().dtype(at::kInt).device(is_gpu ? c10::Device(c10::kCPU) : device);
  const at::Tensor tokens = at::zeros({samples, job.training.seq_len}, ints), targets = at::zeros_like(tokens);

  const ParameterStore& parameters = trainer.transformer().parameters();
  const auto bytes_of = [](const at::Tensor& tensor) { return static_cast<double>(tensor.nbytes()); };
  DryRunMemory& counted = result.counted;
  counted.weights = bytes_of(parameters.master());
  const at::Tensor& compute = parameters.all().front().value;
  if (compute.defined() && compute.scalar_type() != parameters.master().scalar_type()) {
    counted.weights += static_cast<double>(compute.storage().nbytes());
  }
  counted.gradients = bytes_of(parameters.grad());
  counted.optimizer = bytes_of(trainer.optimizer().first_moment()) + bytes_of(trainer.optimizer().second_moment());
  counted.buffers = static_cast<double>(meta_bytes() - base) - counted.weights - counted.gradients - counted.optimizer;
  counted.buffers += static_cast<double>(8 * step_report_size(job));  // which the step itself makes

  const StepResult step = trainer.run_step(1, 1, tokens, targets, k);
  counted.activations = static_cast<double>(step.peak_allocated_bytes - base) - counted.peak();
  result.counted_messages = as_predicted(*messages);

  const TrainerRankPeak peak = trainer_rank_peak(job, rank, k);
  result.predicted = predicted_memory(peak);
  result.moment = peak.moment;
  result.predicted_messages = trainer_rank_traffic(job, rank, k);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace mmoe
