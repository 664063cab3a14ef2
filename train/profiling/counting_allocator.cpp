#include "train/profiling/counting_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>

#include <atomic>
#include <cstring>

namespace mmoe {
namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

std::atomic<ReservedReplay*> replay{nullptr};
ReservedReplay* current_replay() { return replay.load(std::memory_order_acquire); }

// Stands in front of the data, in a block that keeps the data's alignment.
struct Header {
  int64_t bytes = 0;
  ReservedReplay::Handles replayed;
};
constexpr size_t kHeader = 64;
static_assert(sizeof(Header) <= kHeader);

void count_allocation(int64_t bytes) {
  const int64_t now = live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

void free_counted(void* data) {
  if (data == nullptr) return;
  char* const block = static_cast<char*>(data) - kHeader;
  Header header;
  std::memcpy(&header, block, sizeof header);
  live_bytes.fetch_sub(header.bytes, std::memory_order_relaxed);
  if (ReservedReplay* const model = current_replay()) model->free(header.replayed);
  c10::free_cpu(block);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free_counted, c10::Device(c10::DeviceType::CPU)};
    char* const block = static_cast<char*>(c10::alloc_cpu(bytes + kHeader));
    Header header{.bytes = static_cast<int64_t>(bytes), .replayed = {}};
    if (ReservedReplay* const model = current_replay()) {
      header.replayed = model->allocate(header.bytes);
    }
    std::memcpy(block, &header, sizeof header);
    count_allocation(header.bytes);
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

int64_t counted_bytes() { return live_bytes.load(); }
int64_t counted_peak_bytes() { return peak_bytes.load(); }
void reset_counted_peak() {
  peak_bytes.store(live_bytes.load());
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
