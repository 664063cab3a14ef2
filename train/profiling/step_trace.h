#pragma once
// Whole training steps as LibTorch's profilers see them: a trace file that Perfetto and chrome://tracing open, or NVTX
// ranges for Nsight Systems.

#include <c10/core/Device.h>

#include <filesystem>

namespace mmoe {

// Records operators, the ranges of train/profiling/trace_range.h and, on CUDA, kernels and copies, on this thread and
// in the backward passes that it starts, from construction until save(), or to the end of its life. One at a time, and
// not beside NvtxRanges.
class StepTrace {
 public:
  explicit StepTrace(c10::Device device);
  ~StepTrace();
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  // Ends the recording and writes Chrome's JSON trace format. Throws std::system_error when the file cannot be written.
  void save(const std::filesystem::path& path);

 private:
  bool recording_ = true;
};

// Every operator and every range becomes an NVTX range while it lives. CUDA only.
class NvtxRanges {
 public:
  NvtxRanges();
  ~NvtxRanges();
  NvtxRanges(const NvtxRanges&) = delete;
  NvtxRanges& operator=(const NvtxRanges&) = delete;
};

}  // namespace mmoe
