#include "train/profiling/meta_allocator.h"

#include <c10/core/Allocator.h>

#include "train/profiling/byte_counter.h"

namespace mmoe {
namespace {

ByteCounter counter;

void free_counted(void* data) {
  if (data == nullptr) return;
  const auto* const bytes = static_cast<int64_t*>(data);
  counter.remove(*bytes);
  delete bytes;
}

// The "data" of a tensor is its size: an address that is not null, so that kernels' arguments can be filled in.
class MetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device meta(c10::kMeta);
    if (bytes == 0) return {nullptr, nullptr, &free_counted, meta};
    auto* const size = new int64_t(static_cast<int64_t>(bytes));
    counter.add(*size);
    return {size, size, &free_counted, meta};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_counted; }
  void copy_data(void*, const void*, std::size_t) const override {}
};

}  // namespace

void install_meta_allocator() {
  static MetaAllocator allocator;
  c10::SetAllocator(c10::kMeta, &allocator, /*priority=*/255);
}

int64_t meta_bytes() { return counter.live(); }
int64_t meta_peak_bytes() { return counter.peak(); }
void reset_meta_peak() { counter.reset_peak(); }

}  // namespace mmoe
