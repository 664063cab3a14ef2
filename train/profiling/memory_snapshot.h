#pragma once
// A history of the CUDA caching allocator: every allocation with its stack, for https://pytorch.org/memory_viz.

#include <filesystem>

namespace mmoe {

// Records from construction until save(), or to the end of its life. The job must run on CUDA.
class MemorySnapshot {
 public:
  MemorySnapshot();
  ~MemorySnapshot();
  MemorySnapshot(const MemorySnapshot&) = delete;
  MemorySnapshot& operator=(const MemorySnapshot&) = delete;

  // Ends the recording and writes blocks and history in PyTorch's pickle format. Throws std::system_error when the file
  // cannot be written.
  void save(const std::filesystem::path& path);

 private:
  bool recording_ = true;
};

}  // namespace mmoe
