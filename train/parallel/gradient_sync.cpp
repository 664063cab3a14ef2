#include "train/parallel/gradient_sync.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace mmoe {

GradientSync::GradientSync(const Job& job, const ProcessGroups& groups, ParameterStore& parameters,
                           int64_t bucket_elements)
    : groups_(groups), parameters_(parameters), zero_(job.parallelism.zero_stage > 0), overlap_(job.training.overlap) {
  const int64_t experts = parameters.num_split_experts(), decayed = parameters.num_decayed();
  const auto add_section = [&](FlatRange section, const Communicator& group) {
    for (const FlatRange& range : bucket_ranges(section, group.size(), bucket_elements)) {
      Bucket bucket{range, &group, job.model.num_layers, false, {}, {}};
      for (const Parameter& parameter : parameters.all()) {
        const int64_t first = parameter.master.storage_offset();
        if (first >= bucket.range.end || first + parameter.master.numel() <= bucket.range.begin) continue;
        bucket.first_layer = std::min(bucket.first_layer, parameter.layer);
      }
      owned_.push_back(share_of(bucket));
      if (group.size() > 1) buckets_.push_back(std::move(bucket));
    }
  };
  add_section({0, experts}, groups.expert_data);
  add_section({experts, decayed}, groups.data);
  add_section({decayed, parameters.master().numel()}, groups.data);
}

FlatRange GradientSync::share_of(const Bucket& bucket) const {
  if (!zero_) return bucket.range;
  const int64_t share = bucket.range.size() / bucket.group->size();
  const int64_t begin = bucket.range.begin + bucket.group->rank() * share;
  return {begin, begin + share};
}

std::vector<FlatRange> GradientSync::written() const {
  if (zero_) return owned_;
  const int64_t experts = parameters_.num_split_experts();
  std::vector<FlatRange> ranges;
  if (groups_.expert_data.rank() == 0) ranges.push_back({0, experts});
  if (groups_.data.rank() == 0) ranges.push_back({experts, parameters_.master().numel()});
  return ranges;
}

void GradientSync::start(Bucket& bucket) {
  if (std::exchange(bucket.started, true)) return;
  const at::Tensor grad = parameters_.grad().narrow(0, bucket.range.begin, bucket.range.size());
  if (zero_) {
    bucket.share = at::empty({share_of(bucket).size()}, grad.options());
    bucket.transfer = bucket.group->reduce_scatter(bucket.share, grad);
  } else {
    bucket.transfer = bucket.group->all_reduce(grad);
  }
}

void GradientSync::begin_step() {
  for (Bucket& bucket : buckets_) bucket.started = false;
}

void GradientSync::layer_done(int64_t layer) {
  if (!overlap_) return;
  // From the last: every rank must start its buckets in the same order.
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    if (bucket->first_layer >= layer) start(*bucket);
  }
}

void GradientSync::finish() {
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) start(*bucket);
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    bucket->transfer.wait();
    if (!zero_) continue;
    const FlatRange own = share_of(*bucket);
    parameters_.grad().narrow(0, own.begin, own.size()).copy_(std::exchange(bucket->share, {}));
  }
}

at::Tensor GradientSync::sum_over_model(const at::Tensor& quantities) const {
  if (groups_.is_alone()) return quantities.sum();
  // Replicas hold the same numbers without ZeRO: each gives its part of them.
  const double replicas = zero_ ? 1 : static_cast<double>(groups_.data.size());
  const double expert_replicas = zero_ ? 1 : static_cast<double>(groups_.expert_data.size());
  const at::Tensor sum = (quantities[0] / replicas + quantities[1] / expert_replicas).view({1});
  groups_.world.all_reduce(sum).wait();
  return sum.squeeze();
}

void GradientSync::gather_weights() {
  if (!zero_) return;
  std::vector<PendingTransfer> transfers;
  for (const Bucket& bucket : buckets_) {
    const FlatRange own = share_of(bucket);
    const at::Tensor mine = parameters_.master().narrow(0, own.begin, own.size()).clone();
    transfers.push_back(
        bucket.group->all_gather(parameters_.master().narrow(0, bucket.range.begin, bucket.range.size()), mine));
  }
  for (PendingTransfer& transfer : transfers) transfer.wait();
}

}  // namespace mmoe
