#pragma once
// One optimiser step: draws of k, micro-batches forward and backward, clipping, AdamW.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sim/config/job.h"
#include "sim/plan/step_draws.h"
#include "sim/schedule/passes.h"
#include "train/data/batches.h"
#include "train/loop/optimizer.h"
#include "train/model/transformer.h"
#include "train/parallel/gradient_sync.h"
#include "train/parallel/process_groups.h"
#include "train/profiling/reserved_replay.h"

namespace mmoe {

// What the router of one MoE layer did in a step, over all tokens of the global batch.
struct RoutingMetrics {
  int64_t layer = 0;  // of the model, from 0
  double k = 0;       // mean over micro-batches; over tokens for top_p
  std::vector<int64_t> tokens_per_expert;
  double entropy = 0;  // of the router's softmax over experts, mean over tokens, nats
};

struct StepResult {
  int64_t step = 0;                          // from 1
  double loss = 0;                           // mean cross-entropy of the global batch, nats per target
  double load_balance_loss = 0, z_loss = 0;  // means over micro-batches and MoE layers, without coefficients
  double learning_rate = 0, grad_norm = 0;
  double seconds = 0;                            // data to optimiser
  double data_seconds = 0;                       // of them, for this rank's samples
  std::vector<std::vector<double>> k_per_layer;  // [global micro-batch][MoE layer]; means over tokens for top_p
  int64_t peak_allocated_bytes = 0;              // of the largest rank
  std::vector<int64_t> peak_allocated_bytes_by_rank;
  int64_t peak_reserved_bytes = 0;  // of this rank, since the run's begin; on the CPU this step's allocated peak
  std::optional<ReplayedReserved> replayed_reserved;  // of this rank, where it replays its requests
  bool stop_requested = false;                        // of any rank, before the step's end
  std::vector<RoutingMetrics> routing;                // by MoE layer; empty unless measured
  // What came to this rank's experts, [own micro-batch][MoE layer of the model], 0 in layers of other pipeline ranks;
  // empty where experts are not split over ranks.
  std::vector<std::vector<RoutedPairs>> routed_pairs;
};

class Trainer {
 public:
  Trainer(const Job& job, c10::Device device);
  // One rank of a job on several devices; every rank makes the same calls. `groups` must outlive it.
  Trainer(const Job& job, c10::Device device, const ProcessGroups& groups);

  // Runs step `step` (from 1) of `total_steps` on the samples that belong to it.
  StepResult run_step(int64_t step, int64_t total_steps, const Batches& batches);

  // The same with given k for every global micro-batch and layer, and given tokens [samples of this rank's replica, S]
  // (int32, on the CPU): with data-parallel size d, replica i holds the i-th of d equal parts of the global batch.
  // On the device meta (a dry run, train/loop/dry_run.h) only the shapes run: every target counts, every sequence is
  // one document, and of the result there are this rank's peaks alone.
  StepResult run_step(int64_t step, int64_t total_steps, const at::Tensor& tokens, const at::Tensor& targets,
                      const std::vector<std::vector<int>>& k_per_layer);

  // k of every MoE layer in each global micro-batch of a step; k_max everywhere for top_p.
  std::vector<std::vector<int>> draw(int64_t step) const;

  // Draws under this budget from the next step on.
  void set_budget(const Budget& budget);

  // Before each forward and backward pass: the global micro-batch that it works on.
  void before_passes(std::function<void(int64_t micro_batch)> call) { before_pass_ = std::move(call); }

  // Tells all ranks at the end of the step under way, or of the next, that this one has been asked to stop.
  void request_stop() { stop_requested_ = true; }

  // Whether the next steps measure StepResult::routing. On all ranks alike; changes no number of the training.
  void measure_routing(bool measure) { measure_routing_ = measure; }

  Transformer& transformer() { return transformer_; }
  AdamW& optimizer() { return optimizer_; }
  const GradientSync& gradient_sync() const { return sync_; }
  const Job& job() const { return job_; }

 private:
  // Targets of the global batch that count in the loss, one at least.
  double num_global_targets(const at::Tensor& targets) const;
  // Where the numbers of a step's report stand.
  struct ReportLayout {
    int64_t micro_batches, layers;  // of the global batch; MoE layers
    int64_t experts;                // 0 where routing is not measured
    int64_t world_size;
    int64_t entries() const { return 1 + 3 * layers; }  // of a micro-batch
    int64_t routing() const { return micro_batches * entries(); }
    int64_t norm() const { return routing() + (experts > 0 ? layers * (experts + 1) : 0); }
    int64_t size() const { return norm() + 2 + world_size; }
  };
  ReportLayout report_layout(int64_t micro_batches) const;
  // Runs all passes of this rank's schedule; fills in what its micro-batches and layers report, to all ranks and to
  // this one alone.
  void run_passes(const at::Tensor& tokens, const at::Tensor& targets, const std::vector<std::vector<int>>& k_per_layer,
                  const at::Tensor& report, StepResult& result);
  // Fills `result` from the step's report, the step's only copy to the host.
  void read_report(const at::Tensor& report, const std::vector<std::vector<int>>& k_per_layer,
                   StepResult& result) const;

  Job job_;
  c10::Device device_;
  const ProcessGroups& groups_;
  Transformer transformer_;
  GradientSync sync_;
  AdamW optimizer_;
  PipelinePasses passes_;
  bool stop_requested_ = false, measure_routing_ = false;
  std::function<void(int64_t micro_batch)> before_pass_;
  std::optional<StepDraws> draws_;  // none for top_p and for models without MoE layers
};

}  // namespace mmoe
