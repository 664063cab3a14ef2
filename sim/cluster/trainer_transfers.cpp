#include "sim/cluster/trainer_transfers.h"

#include <utility>

#include "sim/memory/layer_memory.h"

namespace mmoe {
namespace {

class Sender {
 public:
  explicit Sender(const Job& job)
      : job_(job),
        own_tokens_(static_cast<double>(own_tokens(job))),
        tensor_(static_cast<double>(job.parallelism.tensor)),
        compute_bytes_(compute_bytes(job.training.precision)),
        accumulate_bytes_(accumulate_bytes(job.training.precision)) {}

  // Heads for tokens and back; a norm of all heads sums squares, and in the backward pass products with the gradient.
  void attention() {
    const bool again = is_recomputed("attention");
    block(again);
    if (job_.parallelism.context > 1) {
      const double head = own_tokens_ * static_cast<double>(job_.model.head_dim) * compute_bytes_;
      const auto heads = static_cast<double>(job_.model.num_heads), kv = static_cast<double>(job_.model.num_kv_heads);
      for (const double width : {heads + 2 * kv, heads}) {
        send({"context", Collective::kAllToAll, head * width, TimeCause::kContext}, 1, 1, again);
      }
    }
    if (tensor_ > 1 && job_.model.qk_norm == QkNorm::kFull) {
      const double bytes = 2 * own_tokens_ * tensor_ * accumulate_bytes_;
      send({"tensor", Collective::kAllReduce, bytes, TimeCause::kTensor}, 1, 1, again);
    }
  }

  // A dense feed-forward, or a shared expert.
  void feed_forward() { block(is_recomputed("moe")); }

  // Experts' counts and probabilities and the z loss, of all ranks that share the tokens.
  void router() {
    const double bytes = (2 * static_cast<double>(job_.model.num_experts) + 1) * 8;
    const bool with_tensor = tensor_ > 1, with_context = job_.parallelism.context > 1;
    if (!with_tensor && !with_context) return;
    const char* group = !with_context ? "tensor" : with_tensor ? "tensor_context" : "context";
    const TimeCause cause = with_tensor ? TimeCause::kTensor : TimeCause::kContext;
    send({group, Collective::kAllReduce, bytes, cause}, 1, 0, is_recomputed("moe"));
  }

  // Numbers of rows, rows and routing weights there, rows back; in the backward pass their gradients the other way.
  void experts(double k, double rows_factor) {
    const bool again = is_recomputed("moe");
    const double pairs = own_tokens_ * k, received = pairs * rows_factor;
    const double row = static_cast<double>(job_.model.hidden_size) * compute_bytes_;
    const double counts = static_cast<double>(job_.model.num_experts) * 8;
    const auto exchange = [&](const char* group, double there, double back) {
      const auto one = [&](double bytes, int forward, int backward) {
        send({group, Collective::kAllToAll, bytes, TimeCause::kExpert}, forward, backward, again);
      };
      one(there * row, 1, 1);
      one(back * row, 1, 1);
      one(there * accumulate_bytes_, 1, 0);
      one(back * accumulate_bytes_, 0, 1);
    };
    if (job_.parallelism.expert > 1) {
      send({"expert", Collective::kAllToAll, counts, TimeCause::kExpert}, 1, 0, again);
      exchange("expert", pairs, received);
    }
    if (const auto parts = static_cast<double>(job_.parallelism.expert_tensor); parts > 1) {
      send({"expert_tensor", Collective::kAllGather, counts, TimeCause::kExpert}, 1, 0, again);
      exchange("expert_tensor", parts * received, parts * received);
    }
  }

  LayerTransfers transfers;

 private:
  bool is_recomputed(const char* module) const {
    return job_.training.recompute.full || job_.training.recompute.has(module);
  }

  void send(const LayerTransfer& transfer, int forward, int backward, bool again) {
    transfers.forward.insert(transfers.forward.end(), static_cast<std::size_t>(forward), transfer);
    const int in_backward = backward + (again ? forward : 0);
    transfers.backward.insert(transfers.backward.end(), static_cast<std::size_t>(in_backward), transfer);
  }

  // The input gathered and the sum of the results scattered; backward the result's gradient and the input once more
  // gathered, the input's gradient scattered.
  void block(bool again) {
    if (tensor_ <= 1) return;
    const double own = own_tokens_ * static_cast<double>(job_.model.hidden_size) * compute_bytes_;
    send({"tensor", Collective::kAllGather, own, TimeCause::kTensor}, 1, 2, again);
    send({"tensor", Collective::kReduceScatter, own * tensor_, TimeCause::kTensor}, 1, 1, again);
  }

  const Job& job_;
  double own_tokens_, tensor_, compute_bytes_, accumulate_bytes_;
};

}  // namespace

bool sends_as_trainer(const Job& job) {
  const ParallelismConfig& split = job.parallelism;
  return (split.context == 1 || split.context_kind == ContextKind::kAllToAll) &&
         (split.tensor == 1 || split.sequence) && job.training.moe.dispatcher == DispatcherKind::kAllToAll;
}

LayerTransfers dense_layer_transfers(const Job& job) {
  Sender sender(job);
  sender.attention();
  sender.feed_forward();
  return std::move(sender.transfers);
}

LayerTransfers moe_layer_transfers(const Job& job, double k, double rows_factor) {
  Sender sender(job);
  sender.attention();
  if (job.model.shared_expert_hidden_size > 0) sender.feed_forward();
  sender.router();
  sender.experts(k, rows_factor);
  return std::move(sender.transfers);
}

}  // namespace mmoe
