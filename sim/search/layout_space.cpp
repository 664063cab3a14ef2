#include "sim/search/layout_space.h"

#include <algorithm>

namespace mmoe {
namespace {

std::vector<int64_t> divisors(int64_t number, int64_t most) {
  std::vector<int64_t> list;
  for (int64_t d = 1; d <= std::min(number, most); ++d) {
    if (number % d == 0) list.push_back(d);
  }
  return list;
}

bool divides(int64_t degree, int64_t size) { return size == 0 || size % degree == 0; }

// Larger micro-batches than this are never worth their memory on a device with hundreds of them a step.
constexpr int64_t kLargestMicroBatch = 16;

}  // namespace

LayoutSpace::LayoutSpace(const Job& job)
    : job_(job),
      schedule_given_(job.given.contains("parallelism.schedule")),
      virtual_given_(job.given.contains("parallelism.virtual_pipeline")) {
  const ModelConfig& model = job.model;
  const ParallelismConfig& now = job.parallelism;
  const int64_t devices = job.hardware.num_devices, node = job.hardware.devices_per_node;
  const auto open = [&](const char* key, int64_t value, std::vector<int64_t> values) {
    return job.given.contains(key) ? std::vector<int64_t>{value} : std::move(values);
  };
  const auto allowed = [](std::vector<int64_t> values, const auto& rule) {
    std::erase_if(values, [&](int64_t value) { return !rule(value); });
    return values;
  };
  // Tensor parallelism beyond a node is never faster than within it; it can be asked for.
  tensors = open("parallelism.tensor", now.tensor, allowed(divisors(devices, node), [&](int64_t t) {
                   return divides(t, model.num_heads) && divides(t, model.num_kv_heads) &&
                          divides(t, model.dense_hidden_size) && divides(t, model.shared_expert_hidden_size);
                 }));
  contexts =
      open("parallelism.context", now.context,
           allowed(divisors(devices, 64), [&](int64_t c) { return c == 1 || job.training.seq_len % (2 * c) == 0; }));
  pipelines = open("parallelism.pipeline", now.pipeline, divisors(devices, model.num_layers));
  experts = open("parallelism.expert", now.expert,
                 model.num_experts == 0
                     ? std::vector<int64_t>{1}
                     : allowed(divisors(model.num_experts, devices), [&](int64_t e) { return devices % e == 0; }));
  expert_tensors =
      open("parallelism.expert_tensor", now.expert_tensor,
           model.num_experts == 0 ? std::vector<int64_t>{1} : allowed(divisors(devices, node), [&](int64_t t) {
             return divides(t, model.expert_hidden_size);
           }));
  zero_stages = open("parallelism.zero_stage", now.zero_stage, {0, 1, 2, 3});
  micro_batches = open("training.micro_batch_size", job.training.micro_batch_size,
                       divisors(job.training.global_batch_size, kLargestMicroBatch));
  if (job.given.contains("training.recompute")) {
    recomputes = {job.training.recompute};
  } else {
    recomputes = {{}, {true, {}}};
    const bool moe = model.num_moe_layers() > 0;
    if (job.training.attention_backend == AttentionBackend::kUnfused) recomputes.push_back({false, {"core_attention"}});
    if (moe) {
      recomputes.push_back({false, {"moe_activation"}});
      recomputes.push_back({false, {"moe"}});
    }
    if (!moe) recomputes.push_back({false, {"mlp"}});
    recomputes.push_back({false, {"attention"}});
  }
  dispatchers = {job.training.moe.dispatcher};
  if (!job.given.contains("training.moe.dispatcher") && model.num_experts > 0) {
    dispatchers = {DispatcherKind::kAllToAll, DispatcherKind::kHierarchical};
  }
  if (job.given.contains("parallelism.sequence")) {
    sequences = {now.sequence};
  } else {
    sequences = {true, false};
  }
}

std::vector<LayoutShape> LayoutSpace::shapes() const {
  const int64_t node = job_.hardware.devices_per_node;
  std::vector<LayoutShape> list;
  for (const int64_t tensor : tensors) {
    for (const int64_t context : contexts) {
      for (const int64_t expert : experts) {
        for (const int64_t expert_tensor : expert_tensors) {
          for (const int64_t size : micro_batches) {
            for (std::size_t recompute = 0; recompute < recomputes.size(); ++recompute) {
              for (const bool sequence : sequences) {
                // One rank has nothing to split; sequence parallelism with more saves memory for the same transfers.
                if (sequences.size() > 1 && sequence != (tensor > 1)) continue;
                for (const DispatcherKind dispatcher : dispatchers) {
                  // Within a node there is no second level.
                  const bool flat = expert * expert_tensor <= node;
                  if (dispatchers.size() > 1 && flat && dispatcher == DispatcherKind::kHierarchical) continue;
                  list.push_back({tensor, context, expert, expert_tensor, size, recompute, sequence, dispatcher});
                }
              }
            }
          }
        }
      }
    }
  }
  return list;
}

std::vector<int64_t> LayoutSpace::virtual_pipelines(int64_t pipeline) const {
  if (virtual_given_) return {job_.parallelism.virtual_pipeline};
  std::vector<int64_t> list = {1};
  if (pipeline == 1 || (schedule_given_ && job_.parallelism.schedule != PipelineSchedule::kInterleaved)) {
    return list;
  }
  // Chunks of equal length: others interleave no better.
  for (int64_t v = 2; v * pipeline <= job_.model.num_layers; ++v) {
    if (job_.model.num_layers % (v * pipeline) == 0) list.push_back(v);
  }
  // Where layers do not divide, the fewest chunks.
  if (list.size() == 1 && 2 * pipeline <= job_.model.num_layers) list.push_back(2);
  return list;
}

std::vector<PipelineSchedule> LayoutSpace::schedules(int64_t virtual_pipeline) const {
  const bool zero_bubble = schedule_given_ && job_.parallelism.schedule == PipelineSchedule::kZeroBubble;
  if (virtual_pipeline > 1 && !zero_bubble) return {PipelineSchedule::kInterleaved};
  if (schedule_given_) return {job_.parallelism.schedule};
  return {PipelineSchedule::kOneForwardOneBackward};
}

void LayoutSpace::apply(const LayoutShape& shape, Job& job) const {
  job.parallelism.tensor = shape.tensor;
  job.parallelism.context = shape.context;
  job.parallelism.expert = shape.expert;
  job.parallelism.expert_tensor = shape.expert_tensor;
  job.parallelism.sequence = shape.sequence;
  job.parallelism.pipeline = 1;
  job.training.micro_batch_size = shape.micro_batch_size;
  job.training.recompute = recomputes[shape.recompute];
  job.training.moe.dispatcher = shape.dispatcher;
}

const char* LayoutSpace::why_not(const Job& job) const {
  const ParallelismConfig& p = job.parallelism;
  const int64_t devices = job.hardware.num_devices;
  if (devices % (p.tensor * p.pipeline * p.context) != 0)
    return "tensor x pipeline x context does not divide the devices";
  if (devices % (p.expert * p.expert_tensor * p.pipeline) != 0) {
    return "expert x expert_tensor x pipeline does not divide the devices";
  }
  const int64_t unit = job.training.micro_batch_size * job.data_parallel_size();
  if (job.training.global_batch_size % unit != 0) return "micro-batches and replicas do not divide the global batch";
  if (p.sequence && job.training.seq_len / p.context % p.tensor != 0)
    return "the sequence does not split over tensor ranks";
  return nullptr;
}

}  // namespace mmoe
