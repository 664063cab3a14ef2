#include "train/loop/trainer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "sim/cluster/step_time.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/units/errors.h"
#include "train/loop/learning_rate.h"
#include "train/parallel/pipeline_transfers.h"
#include "train/profiling/counting_allocator.h"
#include "train/profiling/memory_meter.h"
#include "train/profiling/trace_range.h"

namespace mmoe {
namespace {

// Fails with the cause rather than training on with garbage.
void check_finite(double value, const char* what, int64_t step) {
  if (std::isfinite(value)) return;
  throw RunFailure(std::string(what) + " became " + (std::isnan(value) ? "NaN" : "infinite") + " in step " +
                   std::to_string(step) +
                   "; resume from the last checkpoint with a lower training.learning_rate or clip_norm");
}

}  // namespace

Trainer::Trainer(const Job& job, c10::Device device) : Trainer(on_one_device(job), device, no_groups()) {}

Trainer::Trainer(const Job& job, c10::Device device, const ProcessGroups& groups)
    : job_(job),
      device_(device),
      groups_(groups),
      transformer_(job, groups, device, Gradients::kAllocated),
      sync_(job_, groups, transformer_.parameters()),
      optimizer_(transformer_.parameters(), job.training, sync_.owned()),
      passes_(pipeline_passes(pipeline_shape(job))) {
  if (job.elastic.sampling != Sampling::kTopP && job.model.num_moe_layers() > 0) {
    draws_.emplace(job_);
  }
}

std::vector<std::vector<int>> Trainer::draw(int64_t step) const { return draws_of_all_replicas(job_, draws_, step); }

void Trainer::set_budget(const Budget& budget) {
  job_.elastic.budget = budget;
  job_.elastic.budget_is_auto = false;
  draws_.emplace(job_);
}

StepResult Trainer::run_step(int64_t step, int64_t total_steps, const Batches& batches) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t global = job_.training.global_batch_size, seq_len = job_.training.seq_len;
  const int64_t samples = global / job_.data_parallel_size();
  const at::Tensor tokens = at::empty({samples, seq_len}, at::kInt), targets = at::empty({samples, seq_len}, at::kInt);
  for (int64_t r = 0; r < samples; ++r) {
    batches.sample((step - 1) * global + groups_.data_index() * samples + r, tokens.data_ptr<int32_t>() + r * seq_len,
                   targets.data_ptr<int32_t>() + r * seq_len);
  }
  const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - start;
  StepResult result = run_step(step, total_steps, tokens, targets, draw(step));
  result.data_seconds = loading.count();
  result.seconds += result.data_seconds;
  return result;
}

Trainer::ReportLayout Trainer::report_layout(int64_t micro_batches) const {
  return {micro_batches, job_.model.num_moe_layers(), measure_routing_ ? job_.model.num_experts : 0,
          groups_.world_size};
}

// The report holds, for each global micro-batch, its loss and by MoE layer the two auxiliary losses and the mean number
// of active experts; where routing is measured, by MoE layer the selections of each expert in the whole step and the
// sum over micro-batches of the router's entropy; then the gradient's norm, the number of ranks that were asked to
// stop, and every rank's peak. Each number comes from one rank, or is a sum of whole numbers, but for the entropy, and
// with tensor or context parallelism the losses, which are sums over the ranks' tokens.
StepResult Trainer::run_step(int64_t step, int64_t total_steps, const at::Tensor& tokens, const at::Tensor& targets,
                             const std::vector<std::vector<int>>& k_per_layer) {
  const auto start = std::chrono::steady_clock::now();
  const TraceRange range([step] { return "step " + std::to_string(step); });
  reset_peak_bytes(device_);
  StepResult result;
  result.step = step;
  transformer_.parameters().begin_gradients();
  const ReportLayout layout = report_layout(static_cast<int64_t>(k_per_layer.size()));
  const at::Tensor report = at::zeros({layout.size()}, transformer_.parameters().grad().options().dtype(at::kDouble));
  run_passes(tokens, targets, k_per_layer, report, result);
  transformer_.finish_gradients();
  sync_.finish();
  const at::Tensor norm = sync_.sum_over_model(optimizer_.squared_gradient_norms()).sqrt();
  result.learning_rate = learning_rate(job_.training, step, total_steps);
  optimizer_.update(step, result.learning_rate, norm);
  const bool gathered = sync_.gather_weights();
  if (gathered || !device_.is_cpu()) transformer_.parameters().refresh_compute_weights();
  if (groups_.rank == 0) report[layout.norm()].copy_(norm);
  report[layout.norm() + 1].fill_(stop_requested_ ? 1.0 : 0.0);
  report[layout.norm() + 2 + groups_.rank].fill_(static_cast<double>(peak_allocated_bytes(device_)));
  result.peak_reserved_bytes = peak_reserved_bytes(device_);
  result.replayed_reserved = replayed_reserved_peaks();
  groups_.world.all_reduce(report).wait();
  if (device_.is_meta()) {
    result.peak_allocated_bytes = peak_allocated_bytes(device_);
    return result;
  }
  read_report(report, k_per_layer, result);
  check_finite(result.loss, "the loss", step);
  check_finite(result.grad_norm, "the gradient norm", step);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

double Trainer::num_global_targets(const at::Tensor& targets) const {
  const TrainingConfig& training = job_.training;
  if (training.packing == Packing::kConcatenate && !training.reset_attention_mask) {
    return static_cast<double>(training.global_batch_size * training.seq_len);
  }
  at::Tensor count = targets.ne(kNoTarget).sum().to(at::kDouble).view({1});
  if (groups_.data.size() > 1) {
    count = count.to(device_);
    groups_.data.all_reduce(count).wait();
  }
  if (device_.is_meta()) return static_cast<double>(training.global_batch_size * training.seq_len);
  return std::max(1.0, count.item<double>() / static_cast<double>(groups_.context.size()));
}

void Trainer::run_passes(const at::Tensor& tokens, const at::Tensor& targets,
                         const std::vector<std::vector<int>>& k_per_layer, const at::Tensor& report,
                         StepResult& result) {
  // Between a chunk's forward and its backward pass of one micro-batch.
  struct Flight {
    at::Tensor input, output;
  };
  const TrainingConfig& training = job_.training;
  const PipelineShape& shape = passes_.shape;
  const int64_t rows = training.micro_batch_size, first_micro_batch = groups_.data_index() * shape.num_micro_batches;
  const double global_targets = num_global_targets(targets);
  const Communicator& token_group = groups_.token_group();
  const int64_t own_tokens = training.micro_batch_tokens() / token_group.size();
  PipelineTransfers transfers(shape, groups_, {own_tokens, job_.model.hidden_size},
                              at::TensorOptions().dtype(compute_type(training.precision)).device(device_));
  std::map<std::pair<int64_t, int64_t>, Flight> flights;
  const ReportLayout layout = report_layout(static_cast<int64_t>(k_per_layer.size()));
  const at::Tensor by_micro_batch =
      report.narrow(0, 0, layout.routing()).view({layout.micro_batches, layout.entries()});
  sync_.begin_step();

  const auto run_forward = [&](int64_t chunk_index, int64_t i) {
    const LayerChunk& chunk = transformer_.chunks()[chunk_index];
    const int64_t global = first_micro_batch + i;
    const TraceRange range([&] { return "forward, micro-batch " + std::to_string(global); });
    if (before_pass_) before_pass_(global);
    MicroBatch batch;
    batch.measure_entropy = measure_routing_;
    const auto part = [&](const at::Tensor& all) {
      return all.narrow(0, i * rows, rows)
          .reshape({-1})
          .narrow(0, token_group.rank() * own_tokens, own_tokens)
          .to(device_);
    };
    if (chunk.has_embedding) batch.tokens_T = part(tokens);
    if (chunk.has_head) batch.targets_T = part(targets);
    if (training.reset_attention_mask) {
      const at::Tensor own = targets.narrow(0, i * rows, rows);
      batch.document_lengths = own.is_meta() ? std::vector<int64_t>(static_cast<size_t>(rows), training.seq_len)
                                             : document_lengths(own.data_ptr<int32_t>(), own.numel(), training.seq_len);
    }
    batch.k_per_layer = k_per_layer[global];
    batch.loss_scale = 1 / global_targets;
    batch.auxiliary_scale = 1 / static_cast<double>(k_per_layer.size());
    if (i + 1 == shape.num_micro_batches && !groups_.is_alone()) {
      batch.layer_done = [this](int64_t layer) { sync_.layer_done(layer); };
    }
    Flight& flight = flights[{chunk_index, i}];
    if (!chunk.has_embedding) flight.input = transfers.receive_input(chunk_index, i).set_requires_grad(true);
    TrainingForward forward = transformer_.training_forward(chunk, flight.input, batch);
    const at::Tensor entries = by_micro_batch[global];
    if (chunk.has_head) {
      flight.output = forward.loss;
      entries[0].copy_(forward.loss.detach().squeeze());
    } else {
      flight.output = forward.output_TD;
      transfers.send_output(chunk_index, i, flight.output.detach());
    }
    const int64_t first_moe = std::max<int64_t>(0, chunk.begin - job_.model.num_dense_layers);
    for (size_t l = 0; l < forward.routing.size(); ++l) {
      if (!forward.routing[l].routed) continue;
      if (result.routed_pairs.empty()) {
        result.routed_pairs.assign(static_cast<size_t>(shape.num_micro_batches),
                                   std::vector<RoutedPairs>(static_cast<size_t>(layout.layers)));
      }
      result.routed_pairs[static_cast<size_t>(i)][static_cast<size_t>(first_moe) + l] = *forward.routing[l].routed;
    }
    const bool reports = token_group.rank() == 0;  // for all ranks that share the micro-batch
    for (size_t l = 0; reports && l < forward.routing.size(); ++l) {
      const LayerRouting& routing = forward.routing[l];
      const int64_t moe_layer = first_moe + static_cast<int64_t>(l), place = 1 + 3 * moe_layer;
      entries[place].copy_(routing.load_balance_loss.squeeze());
      entries[place + 1].copy_(routing.z_loss.squeeze());
      entries[place + 2].copy_(routing.counts_E.sum());
      if (measure_routing_) {
        const int64_t first = layout.routing() + moe_layer * (layout.experts + 1);
        report.narrow(0, first, layout.experts).add_(routing.counts_E);
        report[first + layout.experts].add_(routing.entropy);
      }
    }
  };
  const auto run_backward = [&](int64_t chunk_index, int64_t i) {
    const TraceRange range([&] { return "backward, micro-batch " + std::to_string(first_micro_batch + i); });
    if (before_pass_) before_pass_(first_micro_batch + i);
    const LayerChunk& chunk = transformer_.chunks()[chunk_index];
    Flight flight = std::move(flights.extract({chunk_index, i}).mapped());
    torch::autograd::variable_list gradients;
    if (!chunk.has_head) gradients.push_back(transfers.receive_gradient(chunk_index, i));
    if (chunk.has_embedding) {
      torch::autograd::backward({std::exchange(flight.output, {})}, gradients);
    } else {
      transfers.send_gradient(chunk_index, i,
                              torch::autograd::grad({std::exchange(flight.output, {})}, {flight.input}, gradients)[0]);
    }
  };
  for (const Pass& pass : passes_.of_rank(groups_.stage())) {
    pass.kind == PassKind::kForward ? run_forward(pass.chunk, pass.micro_batch)
                                    : run_backward(pass.chunk, pass.micro_batch);
  }
  transfers.finish();
}

void Trainer::read_report(const at::Tensor& report, const std::vector<std::vector<int>>& k_per_layer,
                          StepResult& result) const {
  const at::Tensor values = report.cpu();
  const double* next = values.data_ptr<double>();
  const auto tokens = static_cast<double>(job_.training.micro_batch_tokens());
  for (const std::vector<int>& drawn : k_per_layer) {
    result.loss += *next++;
    std::vector<double> k(drawn.begin(), drawn.end());
    for (double& layer_k : k) {
      const double share = 1 / static_cast<double>(k.size() * k_per_layer.size());
      result.load_balance_loss += *next++ * share;
      result.z_loss += *next++ * share;
      const double selections = *next++;
      if (!draws_) layer_k = selections / tokens;
    }
    result.k_per_layer.push_back(std::move(k));
  }
  for (int64_t l = 0; measure_routing_ && l < job_.model.num_moe_layers(); ++l) {
    RoutingMetrics& routing = result.routing.emplace_back();
    routing.layer = job_.model.num_dense_layers + l;
    for (const std::vector<double>& k : result.k_per_layer) routing.k += k[l];
    routing.k /= static_cast<double>(k_per_layer.size());
    for (int64_t e = 0; e < job_.model.num_experts; ++e) {
      routing.tokens_per_expert.push_back(static_cast<int64_t>(*next++));
    }
    routing.entropy = *next++ / static_cast<double>(k_per_layer.size());
  }
  result.grad_norm = *next++;
  result.stop_requested = *next++ > 0;
  for (int64_t rank = 0; rank < groups_.world_size; ++rank) {
    result.peak_allocated_bytes_by_rank.push_back(static_cast<int64_t>(*next++));
    result.peak_allocated_bytes = std::max(result.peak_allocated_bytes, result.peak_allocated_bytes_by_rank.back());
  }
}

}  // namespace mmoe
