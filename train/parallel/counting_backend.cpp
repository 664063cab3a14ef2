#include "train/parallel/counting_backend.h"

#include <ATen/ops/empty_like.h>

#include <utility>

namespace mmoe {
namespace {

class DoneWork final : public c10d::Work {
 public:
  // `held` is there as long as this.
  explicit DoneWork(at::Tensor held = {}) : held_(std::move(held)) {}
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds /*timeout*/) override { return true; }

 private:
  at::Tensor held_;
};

class CountingBackend final : public c10d::Backend {
 public:
  CountingBackend(std::string name, int position, int size, SumsIn sums, std::shared_ptr<CountedMessages> messages)
      : c10d::Backend(position, size), name_(std::move(name)), sums_(sums), messages_(std::move(messages)) {}

  const std::string getBackendName() const override { return "counting"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions&) override {
    return count(CollectiveCall::kAllReduce, tensors.front());
  }
  c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor& /*out*/, at::Tensor& input,
                                                      const c10d::ReduceScatterOptions&) override {
    at::Tensor copy;
    if (sums_ == SumsIn::kCopy) copy = at::empty_like(input);
    return count(CollectiveCall::kReduceScatter, input, copy);
  }
  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& /*out*/, at::Tensor& input,
                                                 const c10d::AllgatherOptions&) override {
    return count(CollectiveCall::kAllGather, input);
  }
  c10::intrusive_ptr<c10d::Work> alltoall_base(at::Tensor& /*out*/, at::Tensor& input, std::vector<int64_t>&,
                                               std::vector<int64_t>&, const c10d::AllToAllOptions&) override {
    return count(CollectiveCall::kAllToAll, input);
  }
  c10::intrusive_ptr<c10d::Work> send(std::vector<at::Tensor>& tensors, int /*to*/, int /*tag*/) override {
    return count(CollectiveCall::kSend, tensors.front());
  }
  c10::intrusive_ptr<c10d::Work> recv(std::vector<at::Tensor>& tensors, int /*from*/, int /*tag*/) override {
    return count(CollectiveCall::kReceive, tensors.front());
  }

 private:
  c10::intrusive_ptr<c10d::Work> count(CollectiveCall collective, const at::Tensor& payload, at::Tensor held = {}) {
    Traffic& traffic = messages_->by_group[name_][static_cast<size_t>(collective)];
    ++traffic.calls;
    traffic.bytes += static_cast<int64_t>(payload.nbytes());
    return c10::make_intrusive<DoneWork>(std::move(held));
  }

  std::string name_;
  SumsIn sums_;
  std::shared_ptr<CountedMessages> messages_;
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> counting_backend(std::string name, int position, int size, SumsIn sums,
                                                   std::shared_ptr<CountedMessages> messages) {
  return c10::make_intrusive<CountingBackend>(std::move(name), position, size, sums, std::move(messages));
}

}  // namespace mmoe
