#pragma once
// What a run records of chosen steps beside its metrics: traces, memory snapshots, NVTX ranges.

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "train/profiling/memory_snapshot.h"
#include "train/profiling/step_trace.h"

namespace mmoe {

// Steps first to last, both included, from 1.
struct StepRange {
  int64_t first = 0, last = 0;
};

struct RecordingSettings {
  std::optional<StepRange> trace;            // RUN/trace_rankR.json
  std::optional<StepRange> memory_snapshot;  // RUN/memory_rankR.pickle; CUDA only
  bool nvtx = false;                         // CUDA only, and not beside a trace
};

class StepRecordings {
 public:
  StepRecordings(const RecordingSettings& settings, std::filesystem::path run_folder, int64_t rank, c10::Device device);

  // Before and after each step. With `last`, the run ends here: what is being recorded is written. Throws
  // std::system_error when a file cannot be written.
  void before(int64_t step);
  void after(int64_t step, bool last);

 private:
  std::string of_rank(const char* begin, const char* end) const;  // "trace_rank0.json"

  RecordingSettings settings_;
  std::filesystem::path run_folder_;
  int64_t rank_;
  c10::Device device_;
  std::optional<NvtxRanges> nvtx_;
  std::optional<StepTrace> trace_;
  std::optional<MemorySnapshot> memory_;
};

}  // namespace mmoe
