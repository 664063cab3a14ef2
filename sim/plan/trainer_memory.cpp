#include "sim/plan/trainer_memory.h"

#include <algorithm>
#include <functional>
#include <map>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/step_time.h"
#include "sim/memory/layer_memory.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/trainer_layout.h"
#include "sim/plan/trainer_traffic.h"
#include "sim/schedule/passes.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

class RankPlayer {
 public:
  RankPlayer(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k)
      : job_(job),
        k_(k),
        groups_(rank_groups(job.parallelism, job.hardware.num_devices)),
        rank_(rank),
        stage_(position_in(groups_.pipeline, rank)),
        chunks_(layer_chunks(job, stage_)),
        specs_(local_specs(job, rank)),
        places_(place_parameters(specs_, section_alignment(job))),
        accumulate_bytes_(accumulate_bytes(job.training.precision)),
        stream_(residual_bytes(job)),
        load_factor_(groups_.expert.size > 1 ? expert_load_factor(job, position_in(groups_.expert, rank)) : 1) {
    add_buckets();
  }

  TrainerRankPeak play() {
    TrainerRankPeak peak = persistent();
    const PipelinePasses passes = pipeline_passes(pipeline_shape(job_));
    for (const Pass& pass : passes.of_rank(stage_)) {
      pass.kind == PassKind::kForward ? forward(pass) : backward(pass);
    }
    start_buckets(-1);
    double copies = 0;  // of the shares that go round when weights are gathered
    for (const Bucket& bucket : buckets_) copies += bucket.share_bytes;
    kept_ -= copies;  // the sums are where they belong
    offer(copies, "gathering weights");
    peak.total = peak.persistent() + Bytes{highest_};
    peak.moment = moment_;
    return peak;
  }

 private:
  struct Bucket {
    int64_t first_layer;  // its sum sets off once the backward pass has done with this layer
    double bytes;
    double share_bytes;  // where the sum arrives
    std::string group;
    bool started = false;
  };

  bool zero() const { return job_.parallelism.zero_stage > 0; }
  int64_t holders(const Section& section) const { return holders_of(section.group, groups_).ranks.size; }

  TrainerRankPeak persistent() const {
    const double elements = static_cast<double>(places_.num_elements), a = accumulate_bytes_,
                 b = compute_bytes(job_.training.precision);
    double owned = 0;
    for (const Section& section : places_.sections) {
      owned += static_cast<double>(section.range.size()) / (zero() ? static_cast<double>(holders(section)) : 1);
    }
    const TrainingConfig& training = job_.training;
    const auto tokens = static_cast<double>(training.global_batch_size / job_.data_parallel_size() * training.seq_len);
    const double rope = static_cast<double>(training.seq_len * job_.model.head_dim) * a;
    const double host_tokens = job_.hardware.spec.is_cpu ? 2 * 4 * tokens : 0;  // not on the device of a GPU's trainer
    return {.weights = Bytes{elements * (a == b ? a : a + b)},
            .gradients = Bytes{elements * a},
            .optimizer = Bytes{2 * (owned - frozen_owned()) * a},
            .buffers = Bytes{rope + host_tokens + static_cast<double>(8 * step_report_size(job_))},
            .total = {},
            .moment = {}};
  }

  // Elements without optimiser states among those that this rank would update.
  double frozen_owned() const {
    const std::vector<FlatRange> frozen = frozen_ranges(specs_, places_, job_.training);
    if (frozen.empty()) return 0;
    if (!zero()) return static_cast<double>(common_elements(frozen, {{0, places_.num_elements}}));
    std::vector<FlatRange> shares;
    for (const Section& section : places_.sections) {
      const RankGroup group = holders_of(section.group, groups_).ranks;
      const int64_t place = position_in(group, rank_);
      for (const FlatRange& bucket : bucket_ranges(section.range, group.size)) {
        const int64_t share = bucket.size() / group.size;
        shares.push_back({bucket.begin + place * share, bucket.begin + (place + 1) * share});
      }
    }
    return static_cast<double>(common_elements(frozen, shares));
  }

  // Without ZeRO gradients are summed in place.
  void add_buckets() {
    if (!zero()) return;
    for (const Section& section : places_.sections) {
      const int64_t ranks = holders(section);
      if (ranks == 1) continue;
      for (const FlatRange& range : bucket_ranges(section.range, ranks)) {
        int64_t first_layer = job_.model.num_layers;
        for (const auto& [index, begin] : places_.tensors) {
          if (begin >= range.end || begin + padded_elements(specs_[index].shape) <= range.begin) continue;
          first_layer = std::min(first_layer, specs_[index].layer);
        }
        const double bytes = static_cast<double>(range.size()) * accumulate_bytes_;
        buckets_.push_back(
            {first_layer, bytes, bytes / static_cast<double>(ranks), holders_of(section.group, groups_).name});
      }
    }
  }

  void offer(double above, const std::string& moment) {
    if (kept_ + above <= highest_) return;
    highest_ = kept_ + above;
    moment_ = moment;
  }

  LayerMemory memory(const Pass& pass, int64_t layer) const {
    if (!job_.model.is_moe_layer(layer)) return layer_memory(job_, layer, 0);
    const auto k_of = [&](int64_t rank) {
      const int64_t replica = position_in(groups_.data, rank);
      return k_[replica * job_.num_micro_batches() + pass.micro_batch][layer - job_.model.num_dense_layers];
    };
    // Expert ranks run the like-numbered micro-batches of their replicas together, tensor ranks each its tokens of one.
    const RankGroup& experts = groups_.expert;
    const int64_t first = rank_ - position_in(experts, rank_) * experts.stride;
    double k_sum = 0;
    for (int64_t i = 0; i < experts.size; ++i) k_sum += k_of(first + i * experts.stride);
    const auto own_tokens = static_cast<double>(job_.training.micro_batch_tokens() / job_.parallelism.tensor);
    return layer_memory(job_, layer, k_of(rank_),
                        k_sum * load_factor_ * own_tokens / static_cast<double>(experts.size));
  }

  void forward(const Pass& pass) {
    const LayerChunk& chunk = chunks_[pass.chunk];
    kept_ += stream_;  // the embedded tokens, or what the stage before has sent
    for (int64_t layer = chunk.begin; layer < chunk.end; ++layer) {
      const LayerMemory bytes = memory(pass, layer);
      offer(sum_of(bytes.forward_peak), "layer " + std::to_string(layer) + " forward");
      kept_ += bytes.kept;
    }
    if (!chunk.has_head) return;
    offer(sum_of(loss_head_peak(job_)), "loss head");
    kept_ += stream_;  // the gradient of the head's input waits for the backward pass
  }

  void backward(const Pass& pass) {
    const LayerChunk& chunk = chunks_[pass.chunk];
    // The layers count the gradient that comes in. That of the loss head goes when it has been used, one that was
    // received stays to the end.
    kept_ += chunk.has_head ? -stream_ : stream_;
    for (int64_t layer = chunk.end; layer-- > chunk.begin;) {
      const LayerMemory bytes = memory(pass, layer);
      kept_ -= bytes.kept;
      offer(sum_of(bytes.backward_peak), "layer " + std::to_string(layer) + " backward");
      if (pass.micro_batch + 1 == job_.num_micro_batches() && job_.training.overlap) start_buckets(layer);
    }
    kept_ -= chunk.has_head ? stream_ : 2 * stream_;
    if (!chunk.has_embedding && !sends_gradients_) {  // the last gradient sent stays until the next one is
      kept_ += stream_;
      sends_gradients_ = true;
    }
  }

  // Gloo sums in a copy of the whole bucket, two buckets of each group at once (c10d's default number of threads).
  // Those of the last layer are still at work when the rest sets off behind it (layer -1).
  void start_buckets(int64_t layer) {
    if (layer >= 0) copies_.clear();
    for (Bucket& bucket : buckets_) {
      if (bucket.started || bucket.first_layer < layer) continue;
      bucket.started = true;
      kept_ += bucket.share_bytes;
      copies_[bucket.group].push_back(bucket.bytes);
    }
    double at_once = 0;
    for (auto& [group, bytes] : copies_) {
      std::sort(bytes.begin(), bytes.end(), std::greater<>());
      bytes.resize(2, 0);
      at_once += bytes[0] + bytes[1];
    }
    if (job_.hardware.spec.is_cpu) offer(at_once, "summing gradients");
  }

  const Job& job_;
  const std::vector<std::vector<int>>& k_;
  RankGroups groups_;
  int64_t rank_, stage_;
  std::vector<LayerChunk> chunks_;
  std::vector<ParameterSpec> specs_;
  ParameterPlaces places_;
  double accumulate_bytes_, stream_, load_factor_;
  std::vector<Bucket> buckets_;
  std::map<std::string, std::vector<double>> copies_;  // bytes, by group
  bool sends_gradients_ = false;
  double kept_ = 0, highest_ = 0;
  std::string moment_ = "optimizer";
};

}  // namespace

TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k) {
  MMOE_CHECK(static_cast<int64_t>(k.size()) == job.num_micro_batches() * job.data_parallel_size()) << k.size();
  return RankPlayer(job, rank, k).play();
}

}  // namespace mmoe
