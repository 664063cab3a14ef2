#pragma once
// Sums gradients over the ranks that hold the same weights, in buckets that set off as soon as the backward pass has
// done with them; with ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, stage 1) each rank gets the sum of its share,
// updates that, and the updated weights are gathered. From stage 2 on LayerShards forms the sums.

#include <vector>

#include "sim/config/job.h"
#include "train/model/parameters.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

class GradientSync {
 public:
  // The arguments must outlive this.
  GradientSync(const Job& job, const ProcessGroups& groups, ParameterStore& parameters);

  // Elements of parameters.master() that this rank updates, in rising order: all, or with ZeRO 1 and 2 its share of
  // each bucket.
  const std::vector<FlatRange>& owned() const { return owned_; }

  // Of the owned elements those that this rank writes into checkpoints, so that each is written once.
  std::vector<FlatRange> written() const;

  // Before the backward pass of the step's last micro-batch; then what layer_done and finish do runs beside it.
  void begin_step();
  // The backward pass has done with this layer and all behind it.
  void layer_done(int64_t layer);
  // Sets off the rest and waits for all: the gradients of the owned elements are then sums over the global batch.
  void finish();

  // Sum over the whole model of a quantity of this rank's owned elements, given by ParameterGroup
  // ([kNumParameterGroups], on the device): one element.
  at::Tensor sum_over_model(const at::Tensor& quantities) const;

  // After the update: the others' shares of the weights (accumulate type). Whether there were any to gather.
  bool gather_weights();

 private:
  struct Bucket {
    FlatRange range;
    const Communicator* group = nullptr;
    int64_t first_layer = -1;  // the lowest with a weight in it: the last to be done
    bool started = false;
    at::Tensor share;  // ZeRO: where this rank's sum arrives
    PendingTransfer transfer;
  };

  FlatRange share_of(const Bucket& bucket) const;
  void start(Bucket& bucket);

  const ProcessGroups& groups_;
  ParameterStore& parameters_;
  int64_t zero_stage_;
  bool overlap_;
  std::vector<Bucket> buckets_;
  std::vector<FlatRange> owned_;
};

}  // namespace mmoe
