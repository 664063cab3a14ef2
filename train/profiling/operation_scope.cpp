#include "train/profiling/operation_scope.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "sim/throughput/operations.h"
#include "sim/units/errors.h"
#include "train/profiling/memory_meter.h"

namespace mmoe {
namespace {

OperationRecorder* active_recorder = nullptr;
int recompute_depth = 0;

void synchronize(c10::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace

OperationRecorder::OperationRecorder(c10::Device recorded) : device(recorded) {
  MMOE_CHECK(active_recorder == nullptr) << "two operation recorders at once";
  active_recorder = this;
}
OperationRecorder::~OperationRecorder() { active_recorder = nullptr; }

RecomputeMark::RecomputeMark() { ++recompute_depth; }
RecomputeMark::~RecomputeMark() { --recompute_depth; }

OperationScope::OperationScope(const char* operation, OperationPhase phase, Place place)
    : recorder_(active_recorder),
      operation_(operation),
      phase_(phase == OperationPhase::kForward && recompute_depth > 0 ? OperationPhase::kRecompute : phase),
      place_(place),
      range_([this] { return operation_label(operation_, to_string(phase_), place_.layer, place_.k); }) {
  if (recorder_ == nullptr) return;
  synchronize(recorder_->device);
  reset_peak_bytes(recorder_->device);
  start_bytes_ = allocated_bytes(recorder_->device);
  start_ = std::chrono::steady_clock::now();
}

OperationScope::~OperationScope() {
  if (recorder_ == nullptr) return;
  synchronize(recorder_->device);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  recorder_->samples.push_back({operation_, phase_, place_, elapsed.count(),
                                allocated_bytes(recorder_->device) - start_bytes_,
                                peak_allocated_bytes(recorder_->device) - start_bytes_});
}

const char* to_string(OperationPhase phase) {
  switch (phase) {
    case OperationPhase::kForward:
      return "forward";
    case OperationPhase::kBackward:
      return "backward";
    case OperationPhase::kRecompute:
      return "recompute";
    default:
      return "update";
  }
}

}  // namespace mmoe
