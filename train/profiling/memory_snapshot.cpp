#include "train/profiling/memory_snapshot.h"

#include "profiles/store/atomic_file.h"
#include "sim/units/errors.h"

#ifdef MMOE_WITH_CUDA
#include <torch/csrc/cuda/memory_snapshot.h>
#endif

namespace mmoe {

#ifdef MMOE_WITH_CUDA

namespace {

void stop_recording() { torch::cuda::_record_memory_history(std::optional<std::string>()); }

}  // namespace

MemorySnapshot::MemorySnapshot() {
  torch::cuda::_record_memory_history(std::optional<std::string>("all"), "all", "all", SIZE_MAX);
}

MemorySnapshot::~MemorySnapshot() {
  if (recording_) stop_recording();
}

void MemorySnapshot::save(const std::filesystem::path& path) {
  const std::string snapshot = torch::cuda::_memory_snapshot_pickled();
  stop_recording();
  recording_ = false;
  write_file_atomically(path.string(), snapshot);
}

#else

MemorySnapshot::MemorySnapshot() { MMOE_CHECK(false) << "built without CUDA"; }
MemorySnapshot::~MemorySnapshot() = default;
void MemorySnapshot::save(const std::filesystem::path&) {}

#endif

}  // namespace mmoe
