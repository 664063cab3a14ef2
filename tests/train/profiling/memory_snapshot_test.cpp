#include "train/profiling/memory_snapshot.h"

#include <ATen/Context.h>

#include "tests/train/data/temporary_folder.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

TEST(MemorySnapshot, IsAPickleThatNamesWhatWasAllocated) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  const TemporaryFolder folder;
  MemorySnapshot snapshot;
  { const at::Tensor passing = at::empty({1000}, at::TensorOptions().device(at::kCUDA)); }
  snapshot.save(folder.file("memory.pickle"));
  const std::string bytes = folder.read("memory.pickle");
  EXPECT_EQ(bytes.substr(0, 1), "\x80");  // PROTO
  for (const char* key : {"segments", "device_traces", "alloc"}) EXPECT_NE(bytes.find(key), std::string::npos) << key;
}

}  // namespace
}  // namespace mmoe
