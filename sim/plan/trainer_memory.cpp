#include "sim/plan/trainer_memory.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/expert_pairs.h"
#include "sim/cluster/step_time.h"
#include "sim/memory/layer_memory.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/trainer_layout.h"
#include "sim/plan/trainer_traffic.h"
#include "sim/schedule/passes.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

int drawn_by(const Job& job, const RankGroups& groups, int64_t rank, const std::vector<std::vector<int>>& k,
             int64_t micro_batch, int64_t moe_layer) {
  const int64_t replica = position_in(groups.data, rank);
  return k[static_cast<size_t>(replica * job.num_micro_batches() + micro_batch)][static_cast<size_t>(moe_layer)];
}

class RankPlayer {
 public:
  RankPlayer(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k, const RoutedPairsOf& routed)
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
        routed_(routed) {
    add_buckets();
  }

  std::vector<PassMemory> play() {
    std::vector<PassMemory> memory;
    const auto end = [&] {
      now_.after = kept_;
      memory.push_back(std::exchange(now_, {}));
    };
    const PipelinePasses passes = pipeline_passes(pipeline_shape(job_));
    for (const Pass& pass : passes.of_rank(stage_)) {
      pass.kind == PassKind::kForward ? forward(pass) : backward(pass);
      end();
    }
    start_buckets(-1);
    finish_sums();
    end();
    return memory;
  }

  TrainerRankPeak peak() {
    TrainerRankPeak peak = persistent();
    double highest = 0;
    peak.moment = "optimizer";
    for (const PassMemory& pass : play()) {
      if (pass.kept + pass.above <= highest) continue;
      highest = pass.kept + pass.above;
      peak.moment = pass.moment;
    }
    peak.total = peak.persistent() + Bytes{highest};
    return peak;
  }

 private:
  struct Bucket {
    int64_t first_layer;  // its sum sets off once the backward pass has done with this layer
    double bytes;
    double share_bytes;  // where the sum arrives
    int64_t unit = 0;
    double weights_bytes = 0;  // whole, in the type in which they are gathered
    double cast_bytes = 0;     // this rank's share in that type, while they are gathered
    bool started = false;      // of weights: whole or on their way
  };

  int64_t zero_stage() const { return job_.parallelism.zero_stage; }
  bool zero() const { return zero_stage() > 0; }

  TrainerRankPeak persistent() const {
    const double elements = static_cast<double>(places_.num_elements), a = accumulate_bytes_,
                 b = compute_bytes(job_.training.precision);
    double owned = 0;
    for (const Section& section : places_.sections) {
      const int64_t ranks = holders_of(section.group, groups_).ranks.size;
      owned += static_cast<double>(section.range.size()) / (zero() ? static_cast<double>(ranks) : 1);
    }
    const TrainingConfig& training = job_.training;
    const auto tokens = static_cast<double>(training.global_batch_size / job_.data_parallel_size() * training.seq_len);
    const double rope = static_cast<double>(training.seq_len * job_.model.head_dim) * a;
    const double host_tokens = job_.hardware.spec.is_cpu ? 2 * 4 * tokens : 0;  // not on the device of a GPU's trainer
    return {.weights = Bytes{zero_stage() == 3 ? owned * a : elements * (a == b ? a : a + b)},
            .gradients = Bytes{(zero_stage() >= 2 ? owned : elements) * a},
            .optimizer = Bytes{2 * (owned - frozen_owned()) * a},
            .buffers = Bytes{rope + host_tokens + static_cast<double>(8 * step_report_size(job_))},
            .total = {},
            .moment = {}};
  }

  // Elements without optimiser states among those that this rank would update.
  double frozen_owned() const {
    std::vector<FlatRange> owned;
    for (const ParameterBucket& bucket : parameter_buckets(job_, specs_, places_)) {
      const RankGroup ranks = holders_of(bucket.group, groups_).ranks;
      owned.push_back(zero() ? share_of(bucket.range, position_in(ranks, rank_), ranks.size) : bucket.range);
    }
    return static_cast<double>(common_elements(frozen_ranges(specs_, places_, job_.training), owned));
  }

  // Without ZeRO gradients are summed in place; those that no other rank shares are always where they belong.
  void add_buckets() {
    if (!zero()) return;
    for (const ParameterBucket& from : parameter_buckets(job_, specs_, places_)) {
      const auto ranks = static_cast<double>(holders_of(from.group, groups_).ranks.size);
      const auto elements = static_cast<double>(from.range.size());
      const double bytes = ranks > 1 ? elements * accumulate_bytes_ : 0;
      Bucket bucket{.first_layer = from.first_layer, .bytes = bytes, .share_bytes = bytes / ranks, .unit = from.unit};
      const double element =
          from.group == ParameterGroup::kRouters ? accumulate_bytes_ : compute_bytes(job_.training.precision);
      if (ranks > 1 || element < accumulate_bytes_) bucket.weights_bytes = elements * element;
      if (ranks > 1 && element < accumulate_bytes_) bucket.cast_bytes = elements / ranks * element;
      if (zero_stage() < 3) bucket.weights_bytes = bucket.cast_bytes = 0;
      if (bytes > 0 || bucket.weights_bytes > 0) buckets_.push_back(bucket);
    }
  }

  bool on_cpu() const { return job_.hardware.spec.is_cpu; }

  // From here on as LayerShards. Gloo sums in a copy.
  void start_gather(int64_t unit) {
    for (Bucket& bucket : buckets_) {
      if (bucket.unit == unit && !std::exchange(bucket.started, true)) kept_ += bucket.weights_bytes + bucket.cast_bytes;
    }
  }
  void gather(int64_t unit, std::optional<int64_t> next = {}) {
    if (zero_stage() < 3) return;
    start_gather(unit);
    offer(0, "gathering weights");
    for (const Bucket& bucket : buckets_) {
      if (bucket.unit == unit) kept_ -= bucket.cast_bytes;
    }
    if (next && job_.training.overlap) start_gather(*next);
  }
  void release(int64_t unit) {
    if (zero_stage() < 3) return;
    for (Bucket& bucket : buckets_) {
      if (bucket.unit == unit && std::exchange(bucket.started, false)) kept_ -= bucket.weights_bytes;
    }
  }
  void begin_gradients(int64_t unit) {
    for (const Bucket& bucket : buckets_) {
      if (zero_stage() >= 2 && bucket.unit == unit) kept_ += bucket.bytes;
    }
  }
  // With `live` bytes beside what is kept: the gradient that goes on.
  void end_gradients(int64_t unit, double live = 0) {
    if (zero_stage() < 2) return;
    finish_sums();
    for (const Bucket& bucket : buckets_) {
      if (bucket.unit != unit) continue;
      summing_ += bucket.bytes;
      start_sum(bucket);
    }
    offer(live, "summing gradients");
    if (!job_.training.overlap) finish_sums();
  }

  void start_sum(const Bucket& bucket) {
    const double bytes = bucket.share_bytes + (on_cpu() ? bucket.bytes : 0);
    kept_ += bytes;
    summing_ += bytes;
  }
  void finish_sums() { kept_ -= std::exchange(summing_, 0); }

  int64_t head_unit() const { return job_.model.tie_embeddings ? -1 : job_.model.num_layers + 1; }

  void offer(double above, const std::string& moment) {
    if (kept_ + above > now_.kept + now_.above) now_ = {kept_, above, moment, 0};
  }

  LayerMemory memory(const Pass& pass, int64_t layer) const {
    if (!job_.model.is_moe_layer(layer)) return layer_memory(job_, layer, 0);
    const int64_t moe_layer = layer - job_.model.num_dense_layers;
    const int k = drawn_by(job_, groups_, rank_, k_, pass.micro_batch, moe_layer);
    return layer_memory(job_, layer, k, routed_(pass.micro_batch, moe_layer));
  }

  void forward(const Pass& pass) {
    const LayerChunk& chunk = chunks_[pass.chunk];
    if (chunk.has_embedding) gather(-1, chunk.begin);
    kept_ += stream_;  // the embedded tokens, or what the stage before has sent
    if (chunk.has_embedding) release(-1);
    for (int64_t layer = chunk.begin; layer < chunk.end; ++layer) {
      const bool last = layer + 1 == chunk.end;
      gather(layer, last && !chunk.has_head ? std::nullopt : std::optional(layer + 1));
      const LayerMemory bytes = memory(pass, layer);
      offer(sum_of(bytes.forward_peak), "layer " + std::to_string(layer) + " forward");
      kept_ += bytes.kept;
      release(layer);
    }
    if (!chunk.has_head) return;
    gather(job_.model.num_layers, head_unit());
    release(job_.model.num_layers);
    gather(head_unit());
    begin_gradients(head_unit());
    offer(sum_of(loss_head_peak(job_)), "loss head");
    release(head_unit());
    kept_ += stream_;  // the gradient of the head's input waits for the backward pass
    end_gradients(head_unit());
  }

  void backward(const Pass& pass) {
    const LayerChunk& chunk = chunks_[pass.chunk];
    // The layers count the gradient that comes in. That of the loss head goes when it has been used, one that was
    // received stays to the end.
    kept_ += chunk.has_head ? -stream_ : stream_;
    if (chunk.has_head) {
      gather(job_.model.num_layers, chunk.end - 1);
      begin_gradients(job_.model.num_layers);
      release(job_.model.num_layers);
      end_gradients(job_.model.num_layers, stream_);
    }
    for (int64_t layer = chunk.end; layer-- > chunk.begin;) {
      gather(layer, layer > chunk.begin ? std::optional(layer - 1) : std::nullopt);
      begin_gradients(layer);
      const LayerMemory bytes = memory(pass, layer);
      kept_ -= bytes.kept;
      offer(sum_of(bytes.backward_peak), "layer " + std::to_string(layer) + " backward");
      release(layer);
      end_gradients(layer, stream_);
      if (pass.micro_batch + 1 == job_.num_micro_batches() && job_.training.overlap) start_buckets(layer, stream_);
    }
    if (chunk.has_embedding) {
      begin_gradients(-1);
      end_gradients(-1);
    }
    kept_ -= chunk.has_head ? stream_ : 2 * stream_;
    if (!chunk.has_embedding && !sends_gradients_) {  // the last gradient sent stays until the next one is
      kept_ += stream_;
      sends_gradients_ = true;
    }
  }

  // Of ZeRO 1.
  void start_buckets(int64_t layer, double live = 0) {
    if (zero_stage() != 1) return;
    for (Bucket& bucket : buckets_) {
      if (bucket.first_layer >= layer && !std::exchange(bucket.started, true)) start_sum(bucket);
    }
    offer(live, "summing gradients");
  }

  const Job& job_;
  const std::vector<std::vector<int>>& k_;
  RankGroups groups_;
  int64_t rank_, stage_;
  std::vector<LayerChunk> chunks_;
  std::vector<ParameterSpec> specs_;
  ParameterPlaces places_;
  double accumulate_bytes_, stream_;
  const RoutedPairsOf& routed_;
  std::vector<Bucket> buckets_;
  bool sends_gradients_ = false;
  double kept_ = 0;
  double summing_ = 0;  // of kept_: what goes when the sums under way are there
  PassMemory now_;
};

// As training.moe.load says.
ExpertPairs stated_pairs(const Job& job, int64_t rank) {
  const RankGroup experts = rank_groups(job.parallelism, job.hardware.num_devices).expert;
  return ExpertPairs(job, experts.size > 1 ? expert_load_factor(job, position_in(experts, rank)) : 1);
}

// What `pairs` expects to come to the rank's experts at these draws. The arguments must outlive it.
RoutedPairsOf expected_routing(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k,
                               const ExpertPairs& pairs) {
  return [&job, rank, &k, &pairs, groups = rank_groups(job.parallelism, job.hardware.num_devices)](int64_t micro_batch,
                                                                                                   int64_t moe_layer) {
    // Expert ranks run the like-numbered micro-batches of their replicas together, tensor and context ranks each its
    // tokens of one.
    const int64_t sharing = groups.expert.size * groups.expert_tensor.size, first = rank / sharing * sharing;
    const int64_t position = position_in(groups.expert, rank);
    double received = 0, gathered = 0;  // pairs of one token of every rank
    for (int64_t sender = first; sender < first + sharing; ++sender) {
      const double sent = pairs.at(position, moe_layer, drawn_by(job, groups, sender, k, micro_batch, moe_layer));
      gathered += sent;
      const bool sends_here = (sender - rank) % groups.expert.stride == 0;
      if (sends_here) received += sent;
    }
    const auto tokens = static_cast<double>(own_tokens(job));
    return RoutedPairs{received * tokens, gathered * tokens};
  };
}

}  // namespace

TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k) {
  return trainer_rank_peak(job, rank, k, stated_pairs(job, rank));
}

TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k,
                                  const ExpertPairs& pairs) {
  return trainer_rank_peak(job, rank, k, expected_routing(job, rank, k, pairs));
}

TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k,
                                  const RoutedPairsOf& routed) {
  MMOE_CHECK(static_cast<int64_t>(k.size()) == job.num_micro_batches() * job.data_parallel_size()) << k.size();
  return RankPlayer(job, rank, k, routed).peak();
}

std::vector<PassMemory> trainer_pass_memory(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k) {
  const ExpertPairs pairs = stated_pairs(job, rank);
  return RankPlayer(job, rank, k, expected_routing(job, rank, k, pairs)).play();
}

}  // namespace mmoe
