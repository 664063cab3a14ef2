#pragma once
// Seconds that one micro-batch spends in one layer on one rank: a roofline for each operation, transfers between ranks,
// and the host's time to launch it all.

#include <optional>

#include "sim/cluster/layer_seconds.h"
#include "sim/cluster/rank_shapes.h"
#include "sim/cluster/stages.h"
#include "sim/cluster/trainer_operations.h"
#include "sim/cluster/trainer_transfers.h"
#include "sim/network/collectives.h"

namespace mmoe {

// The layers of one job. `rows_factor` of a MoE layer: rows of the busiest rank over those of balanced routing. Where
// the framework has operations of its own, they are the arithmetic, and launching is in their time; its transfers are
// the trainer's own too where sends_as_trainer.
class LayerTimes {
 public:
  LayerTimes(const Job& job, const Framework& framework);

  LayerSeconds dense_layer() const;
  LayerSeconds moe_layer(double k, double rows_factor = 1) const;
  LayerSeconds embedding() const;
  LayerSeconds head() const;  // final norm, logits, loss
  // One depth of multi-token prediction with its own logits.
  LayerSeconds multi_token(double k) const;

  const RankShapes& shapes() const { return shapes_; }
  const Network& network() const { return network_; }
  const std::optional<TrainerOperations>& own() const { return own_; }

 private:
  struct Product {
    double rows, columns, inner, count;
  };
  // What is summed up for one layer before recomputation and the host.
  struct Work {
    SecondsByCause forward{}, backward{};
    double weight_gradients = 0;
    double core_attention = 0, attention = 0, mlp = 0, norm = 0, activation = 0;  // forward seconds, for recomputation
    double expert_inner = 0;  // the same: experts' rows gathered, their up projection and activation
    void add_elementwise(double seconds, double backward_factor);
  };
  double product_seconds(const Product& product, Precision precision, bool grouped) const;
  void add_product(Work& work, const Product& product, bool grouped, double efficiency = 1) const;
  Work attention_half() const;
  void add_attention_block(Work& work) const;
  void add_mlp(Work& work, double width) const;
  void add_tensor_block(Work& work, Precision products) const;
  void add_experts(Work& work, double k, double rows_factor) const;
  double host_of_attention() const;
  void add_accumulation(Work& work, double weights) const;
  LayerSeconds finish(const Work& work, double idle, double host) const;
  LayerSeconds with_own(LayerSeconds layer, const LayerSeconds& arithmetic, const LayerTransfers& transfers) const;
  void add_transfers(SecondsByCause& pass, const std::vector<LayerTransfer>& transfers) const;

  const Job& job_;
  const TimeParameters& time_;
  RankShapes shapes_;
  RankWeights dense_weights_, moe_weights_;
  Network network_;
  GroupPlacement tensor_, context_, expert_, expert_tensor_;
  double bandwidth_;  // bytes/s that elementwise kernels reach
  double bf16_peak_;
  double element_;  // bytes of an activation
  std::optional<TrainerOperations> own_;
  Work attention_half_;  // of every layer
};

}  // namespace mmoe
