#include "sim/plan/trainer_traffic.h"

#include <algorithm>

#include "sim/cluster/step_time.h"
#include "sim/memory/layer_memory.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/stated_rows.h"
#include "sim/plan/trainer_layout.h"
#include "sim/schedule/passes.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

class Counter {
 public:
  explicit Counter(const Job& job)
      : job_(job),
        groups_(rank_groups(job.parallelism, job.hardware.num_devices)),
        shape_(pipeline_shape(job)),
        accumulate_bytes_(job.training.precision == Precision::kFp64 ? 8 : 4),
        compute_bytes_(job.training.precision == Precision::kBf16 ? 2 : accumulate_bytes_) {}

  TrafficByGroup count(const std::vector<std::vector<int>>& k) {
    if (job_.hardware.num_devices == 1) return {};
    count_world(job_.hardware.num_devices);
    for (int64_t rank = 0; rank < job_.hardware.num_devices; ++rank) count_all_but_experts(rank);
    count_experts(k);
    return std::move(traffic_);
  }

  TrafficByGroup count_rank(int64_t rank, const std::vector<std::vector<int>>& k) {
    if (job_.hardware.num_devices == 1) return {};
    count_world(1);
    count_all_but_experts(rank);
    count_experts_of(rank, k);
    return std::move(traffic_);
  }

 private:
  void add(const std::string& group, const std::string& collective, int64_t calls, int64_t bytes) {
    if (calls == 0) return;
    CollectiveTraffic& traffic = traffic_[group][collective];
    traffic.calls += calls;
    traffic.bytes += bytes;
  }

  void count_all_but_experts(int64_t rank) {
    count_gradients(rank);
    count_tensors(rank);
    count_pipeline(position_in(groups_.pipeline, rank));
  }

  // The gradient's norm, and the report of the step. Each of `ranks` ranks hands over the same.
  void count_world(int64_t ranks) {
    add("world", "all_reduce", 2 * ranks, ranks * (step_report_size(job_) * 8 + accumulate_bytes_));
    const bool counts_targets = job_.training.packing != Packing::kConcatenate || job_.training.reset_attention_mask;
    if (counts_targets && groups_.data_context.size > 1) add("data", "all_reduce", ranks, ranks * 8);
  }

  void count_gradients(int64_t rank) {
    const std::vector<ParameterSpec> specs = local_specs(job_, rank);
    const ParameterPlaces places = place_parameters(specs, section_alignment(job_));
    for (const ParameterBucket& bucket : parameter_buckets(job_, specs, places)) {
      const auto [group, holders] = holders_of(bucket.group, groups_);
      const int64_t bytes = bucket.range.size() * accumulate_bytes_, micro_batches = job_.num_micro_batches();
      if (holders.size == 1) continue;
      const BucketUses uses = uses_of(bucket.unit);
      switch (job_.parallelism.zero_stage) {
        case 0:
          add(group, "all_reduce", 1, bytes);
          break;
        case 1:
          add(group, "reduce_scatter", 1, bytes);
          add(group, "all_gather", 1, bytes / holders.size);
          break;
        case 2:
          add(group, "reduce_scatter", uses.sums * micro_batches, uses.sums * micro_batches * bytes);
          add(group, "all_gather", 1, bytes / holders.size);
          break;
        default:
          const int64_t gathers = uses.gathers * micro_batches;
          const int64_t element = bucket.group == ParameterGroup::kRouters ? accumulate_bytes_ : compute_bytes_;
          add(group, "reduce_scatter", uses.sums * micro_batches, uses.sums * micro_batches * bytes);
          add(group, "all_gather", gathers, gathers * bucket.range.size() / holders.size * element);
      }
    }
  }

  // Of ZeRO 2 and 3 in one micro-batch: a layer's weights are gathered for its forward and for its backward pass; the
  // embedding's backward pass needs none, and the output matrix forms its gradients in the forward pass. Tied they are
  // one tensor used in both places.
  struct BucketUses {
    int64_t gathers, sums;
  };
  BucketUses uses_of(int64_t unit) const {
    if (unit < 0) return job_.model.tie_embeddings ? BucketUses{2, 2} : BucketUses{1, 1};
    return unit > job_.model.num_layers ? BucketUses{1, 1} : BucketUses{2, 1};
  }

  // Forward passes of a part of a layer, the one for recomputing it included.
  int64_t num_forwards(const char* module) const {
    return job_.training.recompute.full || job_.training.recompute.has(module) ? 2 : 1;
  }

  // Attention, and a dense feed-forward or shared expert: each forward pass gathers its tokens and scatters the sum of
  // its results; the backward pass gathers the result's gradient and the input again, and scatters the input's
  // gradient. A router sums its experts' counts and probabilities and the z loss, a norm of all heads the squares of
  // queries and of keys, and in the backward pass their products with the gradient.
  void count_tensors(int64_t rank) {
    const ModelConfig& model = job_.model;
    const int64_t ranks = job_.parallelism.tensor, tokens = own_tokens(job_) * ranks;
    if (num_sharing_tokens() == 1) return;
    const int64_t times = job_.num_micro_batches();
    const auto count_calls = [&](const char* group, const char* collective, int64_t calls, int64_t bytes) {
      add(group, collective, times * calls, times * calls * bytes);
    };
    const auto count_block = [&](const char* module) {
      if (ranks == 1) return;
      const int64_t forwards = num_forwards(module), bytes = tokens * model.hidden_size * compute_bytes_;
      count_calls("tensor", "all_gather", forwards + 2, bytes / ranks);
      count_calls("tensor", "reduce_scatter", forwards + 1, bytes);
    };
    for (const LayerChunk& chunk : layer_chunks(job_, position_in(groups_.pipeline, rank))) {
      for (int64_t layer = chunk.begin; layer < chunk.end; ++layer) {
        count_block("attention");
        count_context(count_calls, tokens);
        if (ranks > 1 && model.qk_norm == QkNorm::kFull) {
          count_calls("tensor", "all_reduce", num_forwards("attention") + 1, 2 * tokens * accumulate_bytes_);
        }
        const bool moe = model.is_moe_layer(layer);
        if (!moe || model.shared_expert_hidden_size > 0) count_block("moe");
        if (moe) count_calls(token_group(), "all_reduce", num_forwards("moe"), (2 * model.num_experts + 1) * 8);
      }
    }
  }

  // Attention hands queries, keys and values over for those of this rank's heads, and what it gives for that of this
  // rank's tokens; their gradients in the backward pass.
  template <typename CountCalls>
  void count_context(const CountCalls& count_calls, int64_t tokens) {
    const ModelConfig& model = job_.model;
    if (job_.parallelism.context == 1) return;
    const int64_t head = tokens * model.head_dim / job_.parallelism.tensor * compute_bytes_;
    const int64_t times = num_forwards("attention") + 1;
    count_calls("context", "all_to_all", times, head * (model.num_heads + 2 * model.num_kv_heads));
    count_calls("context", "all_to_all", times, head * model.num_heads);
  }

  // Consecutive ranks, which hold the tokens of a micro-batch between them, and their group.
  int64_t num_sharing_tokens() const { return job_.parallelism.tensor * job_.parallelism.context; }
  const char* token_group() const {
    const ParallelismConfig& layout = job_.parallelism;
    return layout.context == 1 ? "tensor" : layout.tensor == 1 ? "context" : "tensor_context";
  }

  // Consecutive ranks, which hold all experts between them.
  int64_t num_sharing_experts() const { return groups_.expert.size * groups_.expert_tensor.size; }

  // Forward, and again where the layer is recomputed: numbers of rows (64 bits an expert), rows and routing weights to
  // the experts, rows back; backward their gradients the other way. So too over the ranks that hold parts of the same
  // experts, each of which gives its rows, and partial sums of them, to all.
  void count_experts(const std::vector<std::vector<int>>& k) {
    if (num_sharing_experts() == 1) return;
    const int64_t forwards = num_forwards("moe"), ranks = num_sharing_tokens();
    const int64_t row = job_.model.hidden_size * compute_bytes_;
    for (const std::vector<int>& layers : k) {
      for (const int active : layers) {
        const int64_t pairs = job_.training.micro_batch_tokens() * active;
        const int64_t once = pairs * (2 * row + accumulate_bytes_), counts = ranks * job_.model.num_experts * 8;
        if (groups_.expert.size > 1) {
          add("expert", "all_to_all", ranks * (4 * forwards + 3), forwards * (counts + once) + once);
        }
        if (const int64_t parts = groups_.expert_tensor.size; parts > 1) {
          add("expert_tensor", "all_gather", ranks * forwards, forwards * counts);
          add("expert_tensor", "all_to_all", ranks * (3 * forwards + 3), (forwards + 1) * parts * once);
        }
      }
    }
  }

  void count_experts_of(int64_t rank, const std::vector<std::vector<int>>& k) {
    if (num_sharing_experts() == 1) return;
    const int64_t forwards = num_forwards("moe"), row = job_.model.hidden_size * compute_bytes_;
    const int64_t in_replica = job_.num_micro_batches();
    const int64_t tokens = own_tokens(job_);
    const int64_t first = rank / num_sharing_experts() * num_sharing_experts();
    const double share = stated_share(job_, rank);
    for (const LayerChunk& chunk : layer_chunks(job_, position_in(groups_.pipeline, rank))) {
      for (int64_t layer = std::max(chunk.begin, job_.model.num_dense_layers); layer < chunk.end; ++layer) {
        for (int64_t j = 0; j < in_replica; ++j) {
          const auto pairs_of = [&](int64_t sender) {
            const int64_t replica = position_in(groups_.data, sender);
            return tokens * k[replica * in_replica + j][layer - job_.model.num_dense_layers];
          };
          int64_t gathered = 0, received = 0;
          for (int64_t sender = first; sender < first + num_sharing_experts(); ++sender) {
            const int64_t rows = stated_rows(pairs_of(sender), share);
            gathered += rows;
            if ((sender - rank) % groups_.expert.stride == 0) received += rows;
          }
          // `there` goes with its weights forward and alone backward, `back` the other way round.
          const auto bytes = [&](int64_t there, int64_t back) {
            const int64_t forward = there * (row + accumulate_bytes_) + back * row;
            return forwards * forward + there * row + back * (row + accumulate_bytes_);
          };
          const int64_t counts = forwards * job_.model.num_experts * 8;
          if (groups_.expert.size > 1) {
            add("expert", "all_to_all", 4 * forwards + 3, counts + bytes(pairs_of(rank), received));
          }
          if (const int64_t parts = groups_.expert_tensor.size; parts > 1) {
            add("expert_tensor", "all_gather", forwards, counts);
            add("expert_tensor", "all_to_all", 3 * forwards + 3, bytes(parts * received, gathered));
          }
        }
      }
    }
  }

  void count_pipeline(int64_t pipeline_rank) {
    const int64_t stages = job_.parallelism.pipeline * job_.parallelism.virtual_pipeline;
    const int64_t messages = shape_.num_micro_batches;
    const int64_t bytes = messages * own_tokens(job_) * job_.model.hidden_size * compute_bytes_;
    for (int64_t stage = 0; stage + 1 < stages && shape_.pipeline > 1; ++stage) {
      const int64_t from = shape_.rank_of(stage), to = shape_.rank_of(stage + 1);
      const std::string around = from + 1 == shape_.pipeline ? "_around" : "";
      if (from == pipeline_rank) {
        add("forward" + around, "send", messages, bytes);
        add("backward" + around, "receive", messages, bytes);
      }
      if (to == pipeline_rank) {
        add("forward" + around, "receive", messages, bytes);
        add("backward" + around, "send", messages, bytes);
      }
    }
  }

  const Job& job_;
  RankGroups groups_;
  PipelineShape shape_;
  int64_t accumulate_bytes_, compute_bytes_;
  TrafficByGroup traffic_;
};

}  // namespace

int64_t step_report_size(const Job& job) {
  const int64_t micro_batches = job.num_micro_batches() * job.data_parallel_size();
  return micro_batches * (1 + 3 * job.model.num_moe_layers()) + 2 + job.hardware.num_devices;
}

TrafficByGroup trainer_traffic(const Job& job, const std::vector<std::vector<int>>& k) {
  MMOE_CHECK(static_cast<int64_t>(k.size()) == job.num_micro_batches() * job.data_parallel_size()) << k.size();
  return Counter(job).count(k);
}

TrafficByGroup trainer_rank_traffic(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k) {
  MMOE_CHECK(static_cast<int64_t>(k.size()) == job.num_micro_batches() * job.data_parallel_size()) << k.size();
  MMOE_CHECK(0 <= rank && rank < job.hardware.num_devices) << rank;
  return Counter(job).count_rank(rank, k);
}

}  // namespace mmoe
