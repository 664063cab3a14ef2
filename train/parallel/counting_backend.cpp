#include "train/parallel/counting_backend.h"

#include <ATen/ops/empty.h>

#include <functional>
#include <utility>

namespace mmoe {
namespace {

class DoneWork final : public c10d::Work {
 public:
  explicit DoneWork(std::function<void()> waited) : waited_(std::move(waited)) {}
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds /*timeout*/) override {
    if (waited_) waited_();
    return true;
  }

 private:
  std::function<void()> waited_;
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
    if (sums_ == SumsIn::kOneCopy) copy(bytes, input);
    if (sums_ != SumsIn::kCopies) return count(CollectiveCall::kReduceScatter, input);
    std::array<int64_t, 2>& own = messages_->copies_by_group[name_];
    own = {bytes, own[0]};
    int64_t at_once = 0;
    for (const auto& [group, copies] : messages_->copies_by_group) at_once += copies[0] + copies[1];
    copy(at_once, input);
    return count(CollectiveCall::kReduceScatter, input,
                 [messages = messages_, name = name_] { messages->copies_by_group.erase(name); });
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

  c10::intrusive_ptr<c10d::Work> count(CollectiveCall collective, const at::Tensor& payload,
                                       std::function<void()> waited = {}) {
    Traffic& traffic = messages_->by_group[name_][static_cast<size_t>(collective)];
    ++traffic.calls;
    traffic.bytes += static_cast<int64_t>(payload.nbytes());
    return c10::make_intrusive<DoneWork>(std::move(waited));
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
