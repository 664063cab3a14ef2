#pragma once
// ZeRO stages 2 and 3 (Rajbhandari et al. 2020, arXiv:1910.02054; PyTorch FSDP, Zhao et al. 2023, arXiv:2304.11277):
// between the passes a rank keeps its shares of the gradients, in stage 3 of the weights too, one layer at a time is
// whole.

#include <optional>
#include <vector>

#include "sim/config/job.h"
#include "train/model/parameters.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

// Works on the units of ParameterBucket. Every rank must make the same calls in the same order.
class LayerShards {
 public:
  // `groups` and `parameters` must outlive this.
  LayerShards(const Job& job, const ProcessGroups& groups, ParameterStore& parameters, at::ScalarType compute_type);

  // Makes the weights of `unit` whole. With training.overlap those of `next` are gathered while it is at work.
  void gather(int64_t unit, std::optional<int64_t> next = {});
  // Frees them; their shares stay.
  void release(int64_t unit);

  // Zero gradients of `unit`, whole.
  void begin_gradients(int64_t unit);
  // Sets off their sum over the ranks that hold the same weights and frees them; this rank's share of the sum is added
  // to what it keeps, with training.overlap no later than the next unit's.
  void end_gradients(int64_t unit);
  // Waits for the last of them.
  void finish();

 private:
  // What goes through one collective.
  struct Bucket {
    int64_t unit = 0, first = 0, size = 0;  // elements of the flat buffers
    const Communicator* group = nullptr;
    at::ScalarType type;                  // of the gathered weights
    at::Tensor master_share, grad_share;  // this rank's; the first in stage 3 alone
    std::vector<Parameter*> parameters;
    at::Tensor weights, grad;  // whole, where they are
    at::Tensor own_weights;    // this rank's share in `type`, on its way to the others
    PendingTransfer gathering;
  };
  struct Sum {
    at::Tensor share, kept;
    PendingTransfer transfer;
  };

  void start_gather(int64_t unit);

  bool overlap_;
  std::vector<Bucket> buckets_;
  std::vector<Sum> sums_;  // under way
};

}  // namespace mmoe
