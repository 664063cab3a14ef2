#pragma once
// A decoder-only transformer as OLMoE and Qwen3-MoE have it, with a number of active experts for each MoE layer that is
// chosen anew in every call. Dims: B sequences, S their length, T = B * S tokens, D hidden size.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/plan/trainer_layout.h"
#include "train/model/parameters.h"
#include "train/ops/attention.h"
#include "train/ops/expert_exchange.h"
#include "train/ops/experts.h"
#include "train/ops/mlp.h"
#include "train/ops/operation_set.h"
#include "train/ops/router.h"
#include "train/parallel/layer_shards.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

// The type a precision computes in. fp8 is an error: no kernel of the trainer has it.
at::ScalarType compute_type(Precision precision);

// What one MoE layer reports of a forward pass.
struct LayerRouting {
  at::Tensor counts_E;                   // int64
  at::Tensor load_balance_loss, z_loss;  // one element each, unweighted
  at::Tensor entropy;                    // as in Routing
  std::optional<RoutedPairs> routed;     // to this rank's experts, where they are split over ranks
};

struct TrainingForward {
  at::Tensor output_TD;               // what the next chunk takes, of chunks without the loss head
  at::Tensor loss;                    // one element, differentiable: loss_scale * sum of token losses
  at::Tensor losses_T;                // nats per token
  std::vector<LayerRouting> routing;  // by MoE layer of the chunk
};

// One micro-batch of training.
struct MicroBatch {
  at::Tensor tokens_T, targets_T;  // int32, sequence by sequence
  std::vector<int> k_per_layer;    // of every MoE layer of the model
  double loss_scale = 1;           // of the sum of token losses
  double auxiliary_scale = 1;      // of the coefficients of the auxiliary losses
  // Attention stays within documents of these lengths, which sum to T; empty: within sequences.
  std::vector<int64_t> document_lengths = {};
  bool measure_entropy = false;                        // of the routers
  std::function<void(int64_t layer)> layer_done = {};  // in the backward pass, behind each layer; or empty
};

// What every layer's attention has seen of one sequence.
struct KvCache {
  std::vector<KeysAndValues> layers;
  RopeTable rope;
  int64_t length = 0;
};

class Transformer {
 public:
  // Weights are initialised from job.training.seed; a checkpoint may then be copied over parameters().master().
  Transformer(const Job& job, c10::Device device, Gradients gradients,
              InitialWeights initial = InitialWeights::kRandom);
  // The part of it that one rank holds; `groups` must outlive it. Only training passes and evaluate run then. With
  // tensor or context parallelism tokens, targets and what chunks hand on are this rank's of the micro-batch: of equal
  // parts in the order of the ranks.
  Transformer(const Job& job, const ProcessGroups& groups, c10::Device device, Gradients gradients,
              InitialWeights initial = InitialWeights::kRandom);

  // This rank's chunks in the order of the model.
  const std::vector<LayerChunk>& chunks() const { return chunks_; }

  // The whole model on one micro-batch.
  TrainingForward training_forward(const MicroBatch& batch);
  // One of this rank's chunks; x_TD from the chunk before, ignored by the first, which embeds the tokens.
  TrainingForward training_forward(const LayerChunk& chunk, const at::Tensor& x_TD, const MicroBatch& batch);

  // Losses per token (nats) of tokens of all tensor and context parallel ranks, nothing kept. Call under NoGradGuard.
  // document_lengths, here and below, as in MicroBatch.
  at::Tensor evaluate(const at::Tensor& tokens_T, const at::Tensor& targets_T, const std::vector<int>& k_per_layer,
                      const std::vector<int64_t>& document_lengths = {});

  // A cache for sequences of up to `capacity` tokens, empty.
  KvCache make_cache(int64_t capacity) const;

  // Logits [V] of the token after the last one of tokens_T, which follow those that the cache has seen; it then has
  // seen them too. The first call may take many tokens, later ones take one. Call under NoGradGuard.
  at::Tensor extend(KvCache& cache, const at::Tensor& tokens_T, const std::vector<int>& k_per_layer);

  // Of the token after each: [T, V] in the compute type. Call under NoGradGuard.
  at::Tensor logits(const at::Tensor& tokens_T, const std::vector<int>& k_per_layer,
                    const std::vector<int64_t>& document_lengths = {});

  // After a step's passes: ends what they have set off where layers are whole only while they are at work.
  void finish_gradients();

  ParameterStore& parameters() { return parameters_; }
  const ParameterStore& parameters() const { return parameters_; }
  const ModelConfig& model() const { return model_; }
  c10::Device device() const { return device_; }

 private:
  struct Layer {
    const Parameter *attention_norm = nullptr, *output = nullptr, *moe_norm = nullptr;
    QkvWeights qkv;
    const Parameter* router = nullptr;  // null in dense layers
    ExpertWeights experts;
    MlpWeights mlp;  // of a dense layer or of the shared expert
  };

  Layer find_layer(int64_t l) const;
  // Of ZeRO 2 and 3, else nothing: weights are whole between the two, those of `next` about to be.
  void gather(int64_t unit, std::optional<int64_t> next = {});
  void release(int64_t unit);
  // x itself; when the backward pass comes to it, weights (with_weights) and gradients of `unit` are made whole.
  at::Tensor before_backward(const at::Tensor& x, int64_t unit, std::optional<int64_t> next, bool with_weights = true);
  void after_backward(int64_t unit);
  at::Tensor embed_tokens(const LayerChunk& chunk, const at::Tensor& tokens_T);
  at::Tensor normed_output(const LayerChunk& chunk, const at::Tensor& x_TD);
  int64_t head_unit() const { return output_->layer < 0 ? output_->layer : model_.num_layers + 1; }
  at::Tensor run_layers(const LayerChunk& chunk, at::Tensor x_TD, const MicroBatch& batch,
                        std::vector<LayerRouting>* routing);
  // This rank's of tokens of all tensor and context parallel ranks.
  at::Tensor own_part(const at::Tensor& all_T) const;
  at::Tensor hidden_states(const at::Tensor& tokens_T, const std::vector<int>& k_per_layer,
                           const std::vector<int64_t>& document_lengths);
  at::Tensor attention_block(const Layer& layer, const at::Tensor& x_TD, const std::vector<int64_t>& document_lengths,
                             Place place) const;
  at::Tensor feed_forward_block(const Layer& layer, const at::Tensor& x_TD, double auxiliary_scale,
                                bool measure_entropy, LayerRouting* routing, Place place) const;

  ModelConfig model_;
  ElasticConfig elastic_;
  TrainingConfig training_;
  const Operations& operations_;
  c10::Device device_;
  std::vector<LayerChunk> chunks_;
  ExpertGroups expert_groups_;
  const Communicator* tensor_group_ = nullptr;   // null: all weights of heads are here
  const Communicator* context_group_ = nullptr;  // null: attention exchanges nothing
  const Communicator* token_group_ = nullptr;    // null: all tokens are here
  ParameterStore parameters_;
  std::unique_ptr<LayerShards> shards_;  // of ZeRO 2 and 3
  AttentionShape attention_;
  RopeTable rope_;
  std::vector<Layer> layers_;
  const Parameter *embedding_ = nullptr, *final_norm_ = nullptr, *output_ = nullptr;
};

}  // namespace mmoe
