#include "sim/plan/operation_trace.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/plan/step_draws.h"
#include "sim/throughput/operations.h"
#include "sim/throughput/roofline.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// The two halves of a layer, in the order in which they run forward.
const std::vector<Operation> kAttentionBlock = {Operation::kNorm, Operation::kQkv, Operation::kAttention,
                                                Operation::kAttentionOutput};
const std::vector<Operation> kFeedForwardBlock = {Operation::kNorm, Operation::kMlp, Operation::kSharedExpert,
                                                  Operation::kRouter, Operation::kExperts};

std::vector<Operation> reversed(std::vector<Operation> operations) {
  std::reverse(operations.begin(), operations.end());
  return operations;
}

class OperationTrace {
 public:
  OperationTrace(const Job& job, const Calibration& calibration)
      : job_(job), parameters_(roofline_parameters(calibration, job.hardware, job.training.precision)) {}

  nlohmann::json step(int64_t step, const std::vector<std::vector<int>>& k_per_layer) {
    events_ = {{{"ph", "M"}, {"name", "process_name"}, {"pid", 0}, {"tid", 0}, {"args", {{"name", "predicted"}}}}};
    range("step " + std::to_string(step), [&] {
      for (size_t i = 0; i < k_per_layer.size(); ++i) {
        const std::string micro_batch = ", micro-batch " + std::to_string(i);
        range("forward" + micro_batch, [&] { forward(k_per_layer[i]); });
        range("backward" + micro_batch, [&] { backward(k_per_layer[i]); });
      }
      const Times update = times_of(update_operations(job_));
      run(update, Phase::kUpdate, {Operation::kGradientNorm, Operation::kOptimizer}, -1, 0);
      leaf("overhead", parameters_.step_overhead);
    });
    return {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events_)}};
  }

 private:
  using Times = std::map<std::pair<Phase, Operation>, double>;

  Times times_of(const std::vector<OperationCost>& costs) const {
    Times times;
    for (const OperationCost& cost : costs) {
      times[{cost.phase, cost.operation}] += parameters_.step_factor * operation_seconds(cost, parameters_).value;
    }
    return times;
  }

  void add(const std::string& name, double start, double end) {
    events_.push_back({{"ph", "X"},
                       {"cat", "predicted"},
                       {"name", name},
                       {"pid", 0},
                       {"tid", 0},
                       {"ts", start * 1e6},
                       {"dur", (end - start) * 1e6}});
  }

  template <class Body>
  void range(const std::string& name, const Body& body) {
    const double start = now_;
    body();
    add(name, start, now_);
  }

  void leaf(const std::string& name, double seconds) {
    add(name, now_, now_ + seconds);
    now_ += seconds;
  }

  // Those of `operations` that the phase has. A layer's norms are one entry for both blocks.
  void run(const Times& times, Phase phase, const std::vector<Operation>& operations, int layer, int k) {
    const auto has = [&](Operation operation) { return times.count({phase, operation}) > 0; };
    const bool feed_forward = has(Operation::kMlp) || has(Operation::kExperts);
    const double norms = layer >= 0 && has(Operation::kQkv) && feed_forward ? 2 : 1;
    for (const Operation operation : operations) {
      if (!has(operation)) continue;
      const double share = operation == Operation::kNorm ? norms : 1;
      leaf(operation_label(operation_name(operation), phase_name(phase), layer, k),
           times.at({phase, operation}) / share);
    }
  }

  int k_of(const std::vector<int>& k_per_layer, int layer) const {
    return job_.model.is_moe_layer(layer) ? k_per_layer[static_cast<size_t>(layer - job_.model.num_dense_layers)] : 0;
  }

  void forward(const std::vector<int>& k_per_layer) {
    const Times ends = times_of(layer_operations(job_, -1, 0));
    run(ends, Phase::kForward, {Operation::kEmbedding}, -1, 0);
    for (int layer = 0; layer < job_.model.num_layers; ++layer) {
      const int k = k_of(k_per_layer, layer);
      const Times times = times_of(layer_operations(job_, layer, k));
      range(layer_label(layer, k), [&] {
        run(times, Phase::kForward, kAttentionBlock, layer, k);
        run(times, Phase::kForward, kFeedForwardBlock, layer, k);
      });
    }
    run(ends, Phase::kForward, {Operation::kNorm, Operation::kLossHead}, -1, 0);
  }

  void backward(const std::vector<int>& k_per_layer) {
    const Times ends = times_of(layer_operations(job_, -1, 0));
    const Recompute& recompute = job_.training.recompute;
    run(ends, Phase::kBackward, {Operation::kNorm}, -1, 0);
    for (int layer = static_cast<int>(job_.model.num_layers) - 1; layer >= 0; --layer) {
      const int k = k_of(k_per_layer, layer);
      const Times times = times_of(layer_operations(job_, layer, k));
      const bool attention = recompute.has("attention"), feed_forward = recompute.has("moe");
      if (recompute.full) run(times, Phase::kRecompute, kAttentionBlock, layer, k);
      if (recompute.full || feed_forward) run(times, Phase::kRecompute, kFeedForwardBlock, layer, k);
      run(times, Phase::kBackward, reversed(kFeedForwardBlock), layer, k);
      if (!recompute.full && attention) run(times, Phase::kRecompute, kAttentionBlock, layer, k);
      run(times, Phase::kBackward, reversed(kAttentionBlock), layer, k);
    }
    run(ends, Phase::kBackward, {Operation::kEmbedding}, -1, 0);
  }

  const Job& job_;
  RooflineParameters parameters_;
  nlohmann::json events_;
  double now_ = 0;  // seconds
};

}  // namespace

nlohmann::json operation_trace(const Job& job, const Calibration& calibration, int64_t step) {
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where + ": elastic.sampling = top_p draws k by token, which no trace of layers can show; " +
                      "set another");
  }
  std::vector<std::vector<int>> k_per_layer(static_cast<size_t>(job.num_micro_batches()));
  if (job.model.num_moe_layers() > 0) k_per_layer = StepDraws(job).draw(step);
  return OperationTrace(job, calibration).step(step, k_per_layer);
}

}  // namespace mmoe
