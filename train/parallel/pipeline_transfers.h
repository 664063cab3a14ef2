#pragma once
// What pipeline stages hand to each other: activations forward, their gradients backward.

#include <vector>

#include "sim/schedule/passes.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

class PipelineTransfers {
 public:
  // Tensors of `shape` and `options`; the arguments but these must outlive this.
  PipelineTransfers(const PipelineShape& pipeline, const ProcessGroups& groups, std::vector<int64_t> shape,
                    at::TensorOptions options);

  // The input of this rank's chunk from the stage before it, and the gradient of its output from the one behind.
  at::Tensor receive_input(int64_t chunk, int64_t micro_batch) const;
  at::Tensor receive_gradient(int64_t chunk, int64_t micro_batch) const;

  // Return at once; at most one transfer each way to each neighbour is under way, so a call waits for the one before.
  void send_output(int64_t chunk, int64_t micro_batch, const at::Tensor& output);
  void send_gradient(int64_t chunk, int64_t micro_batch, const at::Tensor& gradient);

  // Waits for what is still under way.
  void finish();

 private:
  struct Edge {
    const Communicator* group;
    int64_t peer;
    int tag;
  };
  // From the output of `stage` to the input of the next, seen by this rank.
  Edge edge(int64_t stage, int64_t micro_batch, bool forward) const;
  void send(const Edge& edge, const at::Tensor& tensor);
  at::Tensor receive(const Edge& edge) const;

  PipelineShape pipeline_;
  const ProcessGroups& groups_;
  std::vector<int64_t> shape_;
  at::TensorOptions options_;
  std::vector<std::pair<const Communicator*, PendingTransfer>> sending_;
};

}  // namespace mmoe
