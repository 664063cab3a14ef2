#include "train/profiling/counting_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>

#include "train/profiling/byte_counter.h"

namespace mmoe {
namespace {

ByteCounter counter;

std::atomic<ReservedReplay*> replay{nullptr};
ReservedReplay* current_replay() { return replay.load(std::memory_order_acquire); }

// Stands in front of the data, in a block that keeps the data's alignment.
struct Header {
  int64_t bytes = 0;
  ReservedReplay::Handles replayed;
};
constexpr size_t kHeader = 64;
static_assert(sizeof(Header) <= kHeader);

void free_counted(void* data) {
  if (data == nullptr) return;
  char* const block = static_cast<char*>(data) - kHeader;
  Header header;
  std::memcpy(&header, block, sizeof header);
  counter.remove(header.bytes);
  if (ReservedReplay* const model = current_replay()) model->free(header.replayed);
  c10::free_cpu(block);
}

// Large blocks lie on huge pages where the kernel gives them on request: passes over all weights miss the TLB less.
void ask_for_huge_pages(char* block, size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kHugePage = 2 << 20;
  const uintptr_t first = reinterpret_cast<uintptr_t>(block), begin = (first + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (first + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free_counted, c10::Device(c10::DeviceType::CPU)};
    char* const block = static_cast<char*>(c10::alloc_cpu(bytes + kHeader));
    ask_for_huge_pages(block, bytes + kHeader);
    Header header{.bytes = static_cast<int64_t>(bytes), .replayed = {}};
    if (ReservedReplay* const model = current_replay()) {
      header.replayed = model->allocate(header.bytes);
    }
    std::memcpy(block, &header, sizeof header);
    counter.add(header.bytes);
    void* const data = block + kHeader;
    return {data, data, &free_counted, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_counted; }
  void copy_data(void* destination, const void* source, std::size_t bytes) const override {
    default_copy_data(destination, source, bytes);
  }
};

}  // namespace

void install_counting_allocator() {
  static CountingAllocator allocator;
  // Freed blocks stay in the heap: without this every large tensor costs page faults again in each step.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  c10::SetCPUAllocator(&allocator, /*priority=*/255);
}

int64_t counted_bytes() { return counter.live(); }
int64_t counted_peak_bytes() { return counter.peak(); }
void reset_counted_peak() {
  counter.reset_peak();
  if (ReservedReplay* const model = current_replay()) model->reset_peaks();
}

void replay_caching_allocator() {
  static ReservedReplay model;
  replay.store(&model, std::memory_order_release);
}

std::optional<ReplayedReserved> replayed_reserved_peaks() {
  const ReservedReplay* const model = current_replay();
  if (model == nullptr) return std::nullopt;
  return model->peaks();
}

}  // namespace mmoe
