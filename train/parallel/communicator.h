#pragma once
// Collectives of one group of ranks over LibTorch's c10d: Gloo on CPUs, NCCL on GPUs. Counts what is handed to them.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

namespace mmoe {

// Another rank has ended or does not answer: this one cannot go on, and not by its own fault.
struct RankLost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class CollectiveCall { kAllReduce, kReduceScatter, kAllGather, kAllToAll, kSend, kReceive };
inline constexpr int kNumCollectiveCalls = 6;
const char* name_of(CollectiveCall collective);

// What a rank handed to one kind of collective: bytes are those of its own input (of a receive: of its output);
// seconds are those it waited, so transfers hidden behind work cost none.
struct Traffic {
  int64_t calls = 0;
  int64_t bytes = 0;
  double seconds = 0;
};
using TrafficByCollective = std::array<Traffic, kNumCollectiveCalls>;

// Calls and bytes of one kind by size: class i holds calls of 2^(i-1) to 2^i - 1 bytes, the last all that are larger.
inline constexpr int kNumSizeClasses = 48;
struct SizeClass {
  int64_t calls = 0, bytes = 0;
};
using SizesByCollective = std::array<std::array<SizeClass, kNumSizeClasses>, kNumCollectiveCalls>;

// A transfer under way. Its tensors must not be touched before wait(), which throws RankLost naming the group and
// the collective.
class PendingTransfer {
 public:
  PendingTransfer() = default;
  PendingTransfer(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors, std::string what,
                  Traffic* traffic)
      : work_(std::move(work)), tensors_(std::move(tensors)), what_(std::move(what)), traffic_(traffic) {}
  void wait();

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;
  std::string what_;
  Traffic* traffic_ = nullptr;
};

class Communicator {
 public:
  Communicator() = default;  // a group of this rank alone: nothing is sent, nothing counted
  Communicator(std::string name, c10::intrusive_ptr<c10d::Backend> backend);

  const std::string& name() const { return name_; }  // "data", "expert", ...
  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }

  // In place; sum over the group. Every rank gets the same bits.
  PendingTransfer all_reduce(const at::Tensor& tensor) const;
  // out is the sum's part of this rank: input [size * n] into out [n].
  PendingTransfer reduce_scatter(const at::Tensor& out, const at::Tensor& input) const;
  // out [size * n] from input [n] of every rank; the input may be this rank's part of `out`.
  PendingTransfer all_gather(const at::Tensor& out, const at::Tensor& input) const;
  // Rows to and from every rank: input [sum of send_rows, ...], out [sum of receive_rows, ...].
  PendingTransfer all_to_all(const at::Tensor& out, const at::Tensor& input, std::vector<int64_t> receive_rows,
                             std::vector<int64_t> send_rows) const;
  // To and from one rank of the group; equal tags meet in order.
  PendingTransfer send(const at::Tensor& tensor, int64_t to, int tag) const;
  PendingTransfer receive(const at::Tensor& tensor, int64_t from, int tag) const;

  const TrafficByCollective& traffic() const { return traffic_; }
  void reset_traffic() const { traffic_ = {}; }
  // Since the group was connected; never reset.
  const SizesByCollective& sizes() const { return sizes_; }

 private:
  using Start = std::function<c10::intrusive_ptr<c10d::Work>()>;
  PendingTransfer begin(CollectiveCall collective, const at::Tensor& payload, std::vector<at::Tensor> tensors,
                        const Start& start) const;

  std::string name_ = "self";
  c10::intrusive_ptr<c10d::Backend> backend_;
  int64_t rank_ = 0, size_ = 1;
  mutable TrafficByCollective traffic_{};
  mutable SizesByCollective sizes_{};
};

}  // namespace mmoe
