#include "train/loop/step_recordings.h"

#include <string>
#include <utility>

namespace mmoe {
namespace {

bool holds(const std::optional<StepRange>& range, int64_t step) {
  return range && range->first <= step && step <= range->last;
}

}  // namespace

StepRecordings::StepRecordings(const RecordingSettings& settings, std::filesystem::path run_folder, int64_t rank,
                               c10::Device device)
    : settings_(settings), run_folder_(std::move(run_folder)), rank_(rank), device_(device) {
  if (settings.nvtx) nvtx_.emplace();
}

void StepRecordings::before(int64_t step) {
  if (holds(settings_.memory_snapshot, step) && !memory_) memory_.emplace();
  if (holds(settings_.trace, step) && !trace_) trace_.emplace(device_);
}

std::string StepRecordings::of_rank(const char* begin, const char* end) const {
  std::string name = begin;
  name += std::to_string(rank_);
  return name += end;
}

void StepRecordings::after(int64_t step, bool last) {
  if (trace_ && (last || step == settings_.trace->last)) {
    trace_->save(run_folder_ / of_rank("trace_rank", ".json"));
    trace_.reset();
  }
  if (memory_ && (last || step == settings_.memory_snapshot->last)) {
    memory_->save(run_folder_ / of_rank("memory_rank", ".pickle"));
    memory_.reset();
  }
}

}  // namespace mmoe
