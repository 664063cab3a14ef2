#include "train/parallel/counting_backend.h"

#include <ATen/ops/empty.h>

#include <utility>

namespace mmoe {
namespace {

class DoneWork final : public c10d::Work {
 public:
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds /*timeout*/) override { return true; }
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
    const auto bytes = static_cast<int64_t>(input.nbytes());
    const int64_t before = std::exchange(copied_bytes_, bytes);
    if (sums_ != SumsIn::kPlace) copy(bytes + (sums_ == SumsIn::kCopies ? before : 0), input);
    return count(CollectiveCall::kReduceScatter, input);
  }
  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& out, at::Tensor& input,
                                                 const c10d::AllgatherOptions&) override {
    if (sums_ == SumsIn::kOneCopy) copy(static_cast<int64_t>(out.nbytes()), input);
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
  static void copy(int64_t bytes, const at::Tensor& like) { at::empty({bytes}, like.options().dtype(at::kByte)); }

  c10::intrusive_ptr<c10d::Work> count(CollectiveCall collective, const at::Tensor& payload) {
    Traffic& traffic = messages_->by_group[name_][static_cast<size_t>(collective)];
    ++traffic.calls;
    traffic.bytes += static_cast<int64_t>(payload.nbytes());
    return c10::make_intrusive<DoneWork>();
  }

  std::string name_;
  SumsIn sums_;
  int64_t copied_bytes_ = 0;  // of the reduce-scatter before
  std::shared_ptr<CountedMessages> messages_;
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> counting_backend(std::string name, int position, int size, SumsIn sums,
                                                   std::shared_ptr<CountedMessages> messages) {
  return c10::make_intrusive<CountingBackend>(std::move(name), position, size, sums, std::move(messages));
}

}  // namespace mmoe
