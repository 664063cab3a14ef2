#include "train/parallel/gradient_sync.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace mmoe {

GradientSync::GradientSync(const Job& job, const ProcessGroups& groups, ParameterStore& parameters)
    : groups_(groups),
      parameters_(parameters),
      zero_stage_(job.parallelism.zero_stage),
      overlap_(job.training.overlap) {
  if (zero_stage_ == 3) {
    owned_ = {{0, parameters.master().numel()}};
    return;
  }
  const std::vector<ParameterSpec> specs = local_specs(job, groups.rank);
  for (const ParameterBucket& from : parameter_buckets(job, specs, place_parameters(specs, section_alignment(job)))) {
    Bucket bucket{from.range, &groups.holders(from.group), from.first_layer, false, {}, {}};
    owned_.push_back(share_of(bucket));
    if (bucket.group->size() > 1) buckets_.push_back(std::move(bucket));
  }
}

FlatRange GradientSync::share_of(const Bucket& bucket) const {
  if (zero_stage_ == 0) return bucket.range;
  return mmoe::share_of(bucket.range, bucket.group->rank(), bucket.group->size());
}

std::vector<FlatRange> GradientSync::written() const {
  if (zero_stage_ > 0) return owned_;
  std::vector<FlatRange> ranges;
  for (const Section& section : parameters_.sections()) {
    if (groups_.holders(section.group).rank() == 0) ranges.push_back(section.range);
  }
  return ranges;
}

void GradientSync::start(Bucket& bucket) {
  if (std::exchange(bucket.started, true)) return;
  const at::Tensor grad = parameters_.grad().narrow(0, bucket.range.begin, bucket.range.size());
  if (zero_stage_ == 1) {
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
  if (!overlap_ || zero_stage_ >= 2) return;
  // From the last: every rank must start its buckets in the same order.
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    if (bucket->first_layer >= layer) start(*bucket);
  }
}

void GradientSync::finish() {
  if (zero_stage_ >= 2) return;
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) start(*bucket);
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    bucket->transfer.wait();
    if (zero_stage_ == 0) continue;
    const FlatRange own = share_of(*bucket);
    parameters_.grad().narrow(0, own.begin, own.size()).copy_(std::exchange(bucket->share, {}));
  }
}

at::Tensor GradientSync::sum_over_model(const at::Tensor& quantities) const {
  if (groups_.is_alone()) return quantities.sum();
  // Replicas hold the same numbers without ZeRO: each gives its part of them.
  const at::Tensor sum = at::zeros({1}, quantities.options());
  for (int64_t group = 0; group < kNumParameterGroups; ++group) {
    const int64_t replicas = zero_stage_ > 0 ? 1 : groups_.holders(static_cast<ParameterGroup>(group)).size();
    at::Tensor(sum).add_(quantities[group] / static_cast<double>(replicas));
  }
  groups_.world.all_reduce(sum).wait();
  return sum.squeeze();
}

bool GradientSync::gather_weights() {
  if (zero_stage_ == 0) return false;
  std::vector<PendingTransfer> transfers;
  for (const Bucket& bucket : buckets_) {
    const FlatRange own = share_of(bucket);
    const at::Tensor mine = parameters_.master().narrow(0, own.begin, own.size());
    transfers.push_back(
        bucket.group->all_gather(parameters_.master().narrow(0, bucket.range.begin, bucket.range.size()), mine));
  }
  for (PendingTransfer& transfer : transfers) transfer.wait();
  return true;
}

}  // namespace mmoe
