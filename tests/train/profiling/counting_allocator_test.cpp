#include "train/profiling/counting_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <thread>

#include "kernels/workspace/workspace.h"
#include "tests/train/trainer_testing.h"
#include "train/profiling/memory_meter.h"

namespace mmoe {
namespace {

at::Tensor bytes_tensor(int64_t bytes) { return at::empty({bytes}, at::TensorOptions().dtype(at::kByte)); }

TEST(CountingAllocator, CountsWhatIsAskedForAndWhatIsFreed) {
  const int64_t start = counted_bytes();
  {
    const at::Tensor a = bytes_tensor(1000), b = at::empty({3, 5}, at::TensorOptions().dtype(at::kDouble));
    EXPECT_EQ(counted_bytes() - start, 1000 + 120);
    const at::Tensor view = a.narrow(0, 10, 20), copy = a.narrow(0, 0, 7).clone();
    EXPECT_EQ(counted_bytes() - start, 1000 + 120 + 7);
  }
  EXPECT_EQ(counted_bytes(), start);
}

TEST(CountingAllocator, TakesZeroBytesAndNull) {
  const int64_t start = counted_bytes();
  const at::Tensor nothing = bytes_tensor(0);
  EXPECT_EQ(nothing.numel(), 0);
  void* const pointer = c10::GetCPUAllocator()->raw_allocate(0);
  c10::GetCPUAllocator()->raw_deallocate(pointer);
  EXPECT_EQ(counted_bytes(), start);
}

TEST(CountingAllocator, AlignsForVectorInstructions) {
  for (const int64_t bytes : {1, 63, 64, 100, 4097}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes_tensor(bytes).data_ptr()) % 64, 0U) << bytes;
  }
}

TEST(CountingAllocator, GivesThePeakSinceTheLastReset) {
  reset_counted_peak();
  const int64_t start = counted_bytes();
  EXPECT_EQ(counted_peak_bytes(), start);
  const at::Tensor kept = bytes_tensor(500);
  { const at::Tensor passing = bytes_tensor(2000); }
  { const at::Tensor smaller = bytes_tensor(300); }
  EXPECT_EQ(counted_peak_bytes() - start, 2500);
  EXPECT_EQ(peak_allocated_bytes(c10::kCPU), counted_peak_bytes());
  EXPECT_EQ(peak_reserved_bytes(c10::kCPU), counted_peak_bytes());
  reset_peak_bytes(c10::kCPU);
  EXPECT_EQ(counted_peak_bytes() - start, 500);
  EXPECT_EQ(allocated_bytes(c10::kCPU) - start, 500);
}

TEST(CountingAllocator, CountsThreadsAndTensorsThatChangeThread) {
  const int64_t start = counted_bytes();
  constexpr int64_t kThreads = 4, kRounds = 2000;
  std::vector<at::Tensor> handed_over(kThreads);
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = 1; i <= kRounds; ++i) handed_over[t] = bytes_tensor(i + t);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counted_bytes() - start, kThreads * kRounds + 0 + 1 + 2 + 3);
  handed_over.clear();
  EXPECT_EQ(counted_bytes(), start);
}

TEST(CountingAllocator, CountsTheKernelsWorkspaces) {
  const int64_t start = counted_bytes();
  reset_counted_peak();
  { const kernels::Workspace workspace(nullptr, 4096); }
  EXPECT_EQ(counted_peak_bytes() - start, 4096);
  EXPECT_EQ(counted_bytes(), start);
}

TEST(CountingAllocator, InstallingAgainChangesNothing) {
  const at::Tensor before = bytes_tensor(64);
  const int64_t counted = counted_bytes();
  install_counting_allocator();
  EXPECT_EQ(counted_bytes(), counted);
}

class ResidentSize : public testing::TestWithParam<int64_t> {};

// The counter against the kernel's own count, for one tensor: the difference is the header's page, the tensor's last
// page, and what the kernel's per-thread counters hold back (at most 64 pages a processor), below 1 % in all.
TEST_P(ResidentSize, GrowsAndShrinksWithTheCounter) {
  constexpr int64_t kMegabyte = 1'000'000, kPage = 4096;
  { at::Tensor warm = bytes_tensor(40 * kMegabyte).fill_(1); }  // starts the threads
  const int64_t bytes = GetParam() * kMegabyte;
  const int64_t counted = counted_bytes(), resident = resident_bytes();
  at::Tensor tensor = bytes_tensor(bytes).fill_(1);
  const int64_t counted_growth = counted_bytes() - counted, resident_growth = resident_bytes() - resident;
  EXPECT_EQ(counted_growth, bytes);
  EXPECT_NEAR(static_cast<double>(resident_growth), static_cast<double>(counted_growth),
              2 * kPage + 0.01 * static_cast<double>(bytes));
  EXPECT_GE(peak_resident_bytes(), resident + resident_growth);
  tensor.reset();
  EXPECT_EQ(counted_bytes(), counted);
  EXPECT_NEAR(static_cast<double>(resident_bytes()), static_cast<double>(resident),
              2 * kPage + 0.01 * static_cast<double>(bytes));
}

INSTANTIATE_TEST_SUITE_P(, ResidentSize, testing::Values(64, 128, 256));

}  // namespace
}  // namespace mmoe
