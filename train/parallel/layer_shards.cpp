#include "train/parallel/layer_shards.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <utility>

namespace mmoe {
namespace {

// The part of a bucket's buffer that is a tensor's.
at::Tensor view_of(const at::Tensor& buffer, int64_t bucket_first, const Parameter& parameter) {
  int64_t count = 1;
  for (const int64_t size : parameter.shape) count *= size;
  return buffer.narrow(0, parameter.first - bucket_first, count).view(parameter.shape);
}

}  // namespace

LayerShards::LayerShards(const Job& job, const ProcessGroups& groups, ParameterStore& parameters,
                         at::ScalarType compute_type)
    : overlap_(job.training.overlap) {
  const std::vector<ParameterSpec> specs = local_specs(job, groups.rank);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  int64_t share_first = 0;  // of this rank's shares, which lie one behind the other
  for (const ParameterBucket& from : parameter_buckets(job, specs, places)) {
    Bucket& bucket = buckets_.emplace_back();
    bucket.first = from.range.begin;
    bucket.size = from.range.size();
    bucket.unit = from.unit;
    bucket.group = &groups.holders(from.group);
    bucket.type = compute_type;
    if (from.group == ParameterGroup::kRouters) bucket.type = parameters.master().scalar_type();
    const int64_t share = bucket.size / bucket.group->size();
    if (job.parallelism.zero_stage == 3) bucket.master_share = parameters.master().narrow(0, share_first, share);
    bucket.grad_share = parameters.grad().narrow(0, share_first, share);
    share_first += share;
    for (Parameter& parameter : parameters.all()) {
      if (parameter.first < from.range.begin || parameter.first >= from.range.end) continue;
      bucket.parameters.push_back(&parameter);
    }
  }
}

void LayerShards::start_gather(int64_t unit) {
  for (Bucket& bucket : buckets_) {
    if (bucket.unit != unit || !bucket.master_share.defined() || bucket.weights.defined()) continue;
    bucket.own_weights = bucket.master_share.to(bucket.type);
    if (bucket.group->size() == 1) {
      bucket.weights = bucket.own_weights;
      continue;
    }
    bucket.weights = at::empty({bucket.size}, bucket.own_weights.options());
    bucket.gathering = bucket.group->all_gather(bucket.weights, bucket.own_weights);
  }
}

void LayerShards::gather(int64_t unit, std::optional<int64_t> next) {
  start_gather(unit);
  for (Bucket& bucket : buckets_) {
    if (bucket.unit != unit || !bucket.master_share.defined()) continue;
    bucket.gathering.wait();
    bucket.own_weights.reset();
    for (Parameter* const parameter : bucket.parameters) {
      parameter->value = view_of(bucket.weights, bucket.first, *parameter);
      if (bucket.type == bucket.master_share.scalar_type()) parameter->master = parameter->value;
    }
  }
  if (overlap_ && next) start_gather(*next);
}

void LayerShards::release(int64_t unit) {
  for (Bucket& bucket : buckets_) {
    if (bucket.unit != unit || !bucket.master_share.defined()) continue;
    for (Parameter* const parameter : bucket.parameters) {
      parameter->value.reset();
      parameter->master.reset();
    }
    bucket.weights.reset();
  }
}

void LayerShards::begin_gradients(int64_t unit) {
  for (Bucket& bucket : buckets_) {
    if (bucket.unit != unit) continue;
    bucket.grad = bucket.group->size() == 1 ? bucket.grad_share : at::zeros({bucket.size}, bucket.grad_share.options());
    for (Parameter* const parameter : bucket.parameters) {
      parameter->grad = view_of(bucket.grad, bucket.first, *parameter);
    }
  }
}

void LayerShards::end_gradients(int64_t unit) {
  finish();
  for (Bucket& bucket : buckets_) {
    if (bucket.unit != unit) continue;
    for (Parameter* const parameter : bucket.parameters) parameter->grad.reset();
    const at::Tensor grad = std::exchange(bucket.grad, {});
    if (bucket.group->size() == 1) continue;
    Sum& sum = sums_.emplace_back();
    sum.share = at::empty_like(bucket.grad_share);
    sum.kept = bucket.grad_share;
    sum.transfer = bucket.group->reduce_scatter(sum.share, grad);
  }
  if (!overlap_) finish();
}

void LayerShards::finish() {
  for (Sum& sum : sums_) {
    sum.transfer.wait();
    sum.kept.add_(std::exchange(sum.share, {}));
  }
  sums_.clear();
}

}  // namespace mmoe
