#pragma once
// Time and memory of the named operations of a step ("qkv", "experts", ...; sim/throughput/operations.h lists them).

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "train/profiling/trace_range.h"

namespace mmoe {

// Where in the model an operation runs. k is the layer's number of active experts, 0 where it plays no part.
struct Place {
  int layer = -1;
  int k = 0;
};

enum class OperationPhase { kForward, kBackward, kRecompute, kUpdate };

struct OperationSample {
  std::string operation;
  OperationPhase phase = OperationPhase::kForward;
  Place place;
  double seconds = 0;
  int64_t kept_bytes = 0;       // allocated at the end less at the start
  int64_t transient_bytes = 0;  // high water above the start
};

// Collects samples while it lives; scopes cost nothing when there is none. It resets the device's peak counter at
// every scope, so the peak of a whole step cannot be measured at the same time. One at a time.
class OperationRecorder {
 public:
  explicit OperationRecorder(c10::Device device);
  ~OperationRecorder();
  OperationRecorder(const OperationRecorder&) = delete;
  OperationRecorder& operator=(const OperationRecorder&) = delete;

  std::vector<OperationSample> samples;
  c10::Device device;
};

// Marks forward scopes as recomputation while it lives.
class RecomputeMark {
 public:
  RecomputeMark();
  ~RecomputeMark();
  RecomputeMark(const RecomputeMark&) = delete;
  RecomputeMark& operator=(const RecomputeMark&) = delete;
};

// Times one operation from construction to destruction (on CUDA with a synchronisation at both ends), and names it in
// traces: "layer 2 experts forward k=4".
class OperationScope {
 public:
  OperationScope(const char* operation, OperationPhase phase, Place place);
  ~OperationScope();
  OperationScope(const OperationScope&) = delete;
  OperationScope& operator=(const OperationScope&) = delete;

 private:
  OperationRecorder* recorder_;
  const char* operation_;
  OperationPhase phase_;
  Place place_;
  int64_t start_bytes_ = 0;
  std::chrono::steady_clock::time_point start_;
  TraceRange range_;
};

const char* to_string(OperationPhase phase);

}  // namespace mmoe
