#pragma once
// What meta tensors stand for in a dry run: a device, and what routing decides by values, which they do not have.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace mmoe {

struct StandIn {
  bool is_gpu = false;   // whose allocations the operations follow: a GPU's or the CPU's
  double own_share = 1;  // of its expert group's rows, what comes to this rank's experts
  // k of every rank that shares the experts (expert x expert_tensor consecutive ones) in an MoE layer (of all layers)
  // of the micro-batch at work.
  std::function<std::vector<int>(int64_t layer)> k_of_expert_ranks;
};

// Meta tensors stand for this while it lives; one at a time.
class StandInScope {
 public:
  explicit StandInScope(StandIn stand_in);
  ~StandInScope();
  StandInScope(const StandInScope&) = delete;
  StandInScope& operator=(const StandInScope&) = delete;
};
const StandIn& stand_in();

// Whether an operation on this tensor runs as on a GPU.
inline bool runs_on_gpu(const at::Tensor& tensor) {
  return tensor.is_cuda() || (tensor.is_meta() && stand_in().is_gpu);
}

// Rows to and from every rank of the expert group, and what each rank of the expert-tensor group receives from its own
// expert group, where every rank has `tokens` tokens. `expert_rank` and `tensor_rank` are this rank's places in the
// two.
struct StatedExchange {
  std::vector<int64_t> send_rows, receive_rows, gather_rows;
};
StatedExchange stated_exchange(int64_t tokens, int64_t expert_rank, int64_t tensor_rank, int64_t tensor_ranks,
                               int64_t layer);

// Where each of `num_experts` segments begins that share `pairs` rows evenly, and the end of the last. Rows that fill a
// segment up to a multiple of `alignment` are as many as they are on average: lengths modulo it are close to uniform.
std::vector<int64_t> stated_offsets(int64_t pairs, int64_t num_experts, int64_t alignment);

}  // namespace mmoe
