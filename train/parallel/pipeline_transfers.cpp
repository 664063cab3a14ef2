#include "train/parallel/pipeline_transfers.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace mmoe {

PipelineTransfers::PipelineTransfers(const PipelineShape& pipeline, const ProcessGroups& groups,
                                     std::vector<int64_t> shape, at::TensorOptions options)
    : pipeline_(pipeline), groups_(groups), shape_(std::move(shape)), options_(options) {}

PipelineTransfers::Edge PipelineTransfers::edge(int64_t stage, int64_t micro_batch, bool forward) const {
  const int64_t from = pipeline_.rank_of(stage), to = pipeline_.rank_of(stage + 1);
  const bool around = from + 1 == pipeline_.pipeline;
  const Communicator& group = forward ? (around ? groups_.forward_around : groups_.forward)
                                      : (around ? groups_.backward_around : groups_.backward);
  return {&group, groups_.stage() == from ? to : from,
          static_cast<int>(stage * pipeline_.num_micro_batches + micro_batch)};
}

at::Tensor PipelineTransfers::receive(const Edge& edge) const {
  const at::Tensor tensor = at::empty(shape_, options_);
  edge.group->receive(tensor, edge.peer, edge.tag).wait();
  return tensor;
}

void PipelineTransfers::send(const Edge& edge, const at::Tensor& tensor) {
  const auto before = std::find_if(sending_.begin(), sending_.end(),
                                   [&](const auto& transfer) { return transfer.first == edge.group; });
  if (before == sending_.end()) {
    sending_.emplace_back(edge.group, edge.group->send(tensor, edge.peer, edge.tag));
    return;
  }
  before->second.wait();
  before->second = edge.group->send(tensor, edge.peer, edge.tag);
}

at::Tensor PipelineTransfers::receive_input(int64_t chunk, int64_t micro_batch) const {
  return receive(edge(pipeline_.stage(groups_.stage(), chunk) - 1, micro_batch, /*forward=*/true));
}

at::Tensor PipelineTransfers::receive_gradient(int64_t chunk, int64_t micro_batch) const {
  return receive(edge(pipeline_.stage(groups_.stage(), chunk), micro_batch, /*forward=*/false));
}

void PipelineTransfers::send_output(int64_t chunk, int64_t micro_batch, const at::Tensor& output) {
  send(edge(pipeline_.stage(groups_.stage(), chunk), micro_batch, /*forward=*/true), output);
}

void PipelineTransfers::send_gradient(int64_t chunk, int64_t micro_batch, const at::Tensor& gradient) {
  send(edge(pipeline_.stage(groups_.stage(), chunk) - 1, micro_batch, /*forward=*/false), gradient);
}

void PipelineTransfers::finish() {
  for (auto& [group, transfer] : sending_) transfer.wait();
  sending_.clear();
}

}  // namespace mmoe
