#include "train/parallel/communicator.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <thread>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// c10d's messages run over many lines of stack; the first says what happened.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

[[noreturn]] void fail(const std::string& what, const std::exception& error) {
  throw RankLost(what + " failed (" + first_line(error.what()) + ")");
}

}  // namespace

const char* name_of(CollectiveCall collective) {
  static constexpr const char* kNames[] = {"all_reduce", "reduce_scatter", "all_gather",
                                           "all_to_all", "send",           "receive"};
  return kNames[static_cast<int>(collective)];
}

namespace {

// Gloo's thread lets go of a finished transfer's tensors a moment after the waiting thread goes on. Without this the
// moment at which their memory is free, and with it a step's peak, would be chance. On a busy machine that thread may
// stand still for a while.
void wait_for_release(const c10::intrusive_ptr<c10d::Work>& work) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (work.use_count() > 1 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

// Of a reduce-scatter. Gloo's own does the same, but leaves the release of the summed copy to a thread of its own.
class SumThenShare final : public c10d::Work {
 public:
  SumThenShare(c10::intrusive_ptr<c10d::Work> sum, at::Tensor part, at::Tensor out)
      : sum_(std::move(sum)), part_(std::move(part)), out_(std::move(out)) {}
  bool wait(std::chrono::milliseconds timeout) override {
    sum_->wait(timeout);
    wait_for_release(sum_);
    out_.copy_(part_);
    return true;
  }

 private:
  c10::intrusive_ptr<c10d::Work> sum_;
  at::Tensor part_, out_;
};

// Transfers that make up one.
class Together final : public c10d::Work {
 public:
  explicit Together(std::vector<c10::intrusive_ptr<c10d::Work>> parts) : parts_(std::move(parts)) {}
  bool wait(std::chrono::milliseconds timeout) override {
    for (const auto& part : parts_) {
      part->wait(timeout);
      wait_for_release(part);
    }
    return true;
  }

 private:
  std::vector<c10::intrusive_ptr<c10d::Work>> parts_;
};

}  // namespace

void PendingTransfer::wait() {
  if (!work_) return;
  const auto start = std::chrono::steady_clock::now();
  try {
    work_->wait();
  } catch (const std::exception& error) {
    fail(what_, error);
  }
  if (tensors_.front().is_cpu()) wait_for_release(work_);
  traffic_->seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  work_.reset();
  tensors_.clear();
}

Communicator::Communicator(std::string name, c10::intrusive_ptr<c10d::Backend> backend)
    : name_(std::move(name)), backend_(std::move(backend)), rank_(backend_->getRank()), size_(backend_->getSize()) {}

PendingTransfer Communicator::begin(CollectiveCall collective, const at::Tensor& payload,
                                    std::vector<at::Tensor> tensors, const Start& start) const {
  for (const at::Tensor& tensor : tensors) MMOE_CHECK(tensor.is_contiguous()) << name_of(collective);
  Traffic& traffic = traffic_[static_cast<int>(collective)];
  ++traffic.calls;
  traffic.bytes += static_cast<int64_t>(payload.nbytes());
  const int size_class = std::min(kNumSizeClasses - 1, static_cast<int>(std::bit_width(payload.nbytes())));
  SizeClass& sizes = sizes_[static_cast<int>(collective)][static_cast<std::size_t>(size_class)];
  ++sizes.calls;
  sizes.bytes += static_cast<int64_t>(payload.nbytes());
  const std::string what = std::string(name_of(collective)) + " over the " + name_ + " group";
  try {
    return {start(), std::move(tensors), what, &traffic};
  } catch (const std::exception& error) {
    fail(what, error);
  }
}

PendingTransfer Communicator::all_reduce(const at::Tensor& tensor) const {
  if (size_ == 1) return {};
  return begin(CollectiveCall::kAllReduce, tensor, {tensor}, [&] {
    std::vector<at::Tensor> tensors{tensor};
    return backend_->allreduce(tensors);
  });
}

PendingTransfer Communicator::reduce_scatter(const at::Tensor& out, const at::Tensor& input) const {
  if (size_ == 1) {
    at::Tensor(out).copy_(input);
    return {};
  }
  return begin(CollectiveCall::kReduceScatter, input, {out, input}, [&]() -> c10::intrusive_ptr<c10d::Work> {
    if (input.is_cpu()) {
      std::vector<at::Tensor> sums{input.clone()};
      return c10::make_intrusive<SumThenShare>(backend_->allreduce(sums), sums[0].chunk(size_)[rank_], out);
    }
    at::Tensor to = out, from = input;
    return backend_->_reduce_scatter_base(to, from);
  });
}

PendingTransfer Communicator::all_gather(const at::Tensor& out, const at::Tensor& input) const {
  if (size_ == 1) {
    at::Tensor(out).copy_(input);
    return {};
  }
  return begin(CollectiveCall::kAllGather, input, {out, input}, [&]() -> c10::intrusive_ptr<c10d::Work> {
    at::Tensor to = out, from = input;
    if (!input.is_cpu()) return backend_->_allgather_base(to, from);
    // c10d's gather over Gloo goes through a copy of the whole, which a thread of its own makes and frees.
    const std::vector<at::Tensor> parts = out.chunk(size_);
    if (parts[rank_].data_ptr() != input.data_ptr()) at::Tensor(parts[rank_]).copy_(input.view_as(parts[rank_]));
    std::vector<c10::intrusive_ptr<c10d::Work>> sends;
    for (int64_t root = 0; root < size_; ++root) {
      std::vector<at::Tensor> part{parts[root]};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      sends.push_back(backend_->broadcast(part, options));
    }
    return c10::make_intrusive<Together>(std::move(sends));
  });
}

PendingTransfer Communicator::all_to_all(const at::Tensor& out, const at::Tensor& input,
                                         std::vector<int64_t> receive_rows, std::vector<int64_t> send_rows) const {
  if (size_ == 1) {
    at::Tensor(out).copy_(input);
    return {};
  }
  return begin(CollectiveCall::kAllToAll, input, {out, input}, [&] {
    at::Tensor to = out, from = input;
    return backend_->alltoall_base(to, from, receive_rows, send_rows);
  });
}

PendingTransfer Communicator::send(const at::Tensor& tensor, int64_t to, int tag) const {
  return begin(CollectiveCall::kSend, tensor, {tensor}, [&] {
    std::vector<at::Tensor> tensors{tensor};
    return backend_->send(tensors, static_cast<int>(to), tag);
  });
}

PendingTransfer Communicator::receive(const at::Tensor& tensor, int64_t from, int tag) const {
  return begin(CollectiveCall::kReceive, tensor, {tensor}, [&] {
    std::vector<at::Tensor> tensors{tensor};
    return backend_->recv(tensors, static_cast<int>(from), tag);
  });
}

}  // namespace mmoe
