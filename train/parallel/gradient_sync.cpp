#include "train/parallel/gradient_sync.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace mmoe {

GradientSync::GradientSync(const Job& job, const ProcessGroups& groups, ParameterStore& parameters,
                           int64_t bucket_elements)
    : groups_(groups), parameters_(parameters), zero_(job.parallelism.zero_stage > 0), overlap_(job.training.overlap) {
  for (const Section& section : parameters.sections()) {
    const Communicator& group = groups.holders(section.group);
    for (const FlatRange& range : bucket_ranges(section.range, group.size(), bucket_elements)) {
      Bucket bucket{range, &group, job.model.num_layers, false, {}, {}};
      for (const Parameter& parameter : parameters.all()) {
        const int64_t first = parameter.master.storage_offset();
        if (first >= bucket.range.end || first + parameter.master.numel() <= bucket.range.begin) continue;
        bucket.first_layer = std::min(bucket.first_layer, parameter.layer);
      }
      owned_.push_back(share_of(bucket));
      if (group.size() > 1) buckets_.push_back(std::move(bucket));
    }
  }
}

FlatRange GradientSync::share_of(const Bucket& bucket) const {
  if (!zero_) return bucket.range;
  const int64_t share = bucket.range.size() / bucket.group->size();
  const int64_t begin = bucket.range.begin + bucket.group->rank() * share;
  return {begin, begin + share};
}

std::vector<FlatRange> GradientSync::written() const {
  if (zero_) return owned_;
  std::vector<FlatRange> ranges;
  for (const Section& section : parameters_.sections()) {
    if (groups_.holders(section.group).rank() == 0) ranges.push_back(section.range);
  }
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
  const at::Tensor sum = at::zeros({1}, quantities.options());
  for (int64_t group = 0; group < kNumParameterGroups; ++group) {
    const int64_t replicas = zero_ ? 1 : groups_.holders(static_cast<ParameterGroup>(group)).size();
    at::Tensor(sum).add_(quantities[group] / static_cast<double>(replicas));
  }
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
