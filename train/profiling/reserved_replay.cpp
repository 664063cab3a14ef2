#include "train/profiling/reserved_replay.h"

namespace mmoe {

ReservedReplay::Handles ReservedReplay::allocate(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  return {default_.allocate(bytes).value(), expandable_.allocate(bytes).value()};  // without limit there is room
}

void ReservedReplay::free(Handles handles) {
  if (handles.by_default < 0) return;
  const std::lock_guard lock(mutex_);
  default_.free(handles.by_default);
  expandable_.free(handles.expandable);
}

void ReservedReplay::reset_peaks() {
  const std::lock_guard lock(mutex_);
  default_.reset_peaks();
  expandable_.reset_peaks();
}

ReplayedReserved ReservedReplay::peaks() const {
  const std::lock_guard lock(mutex_);
  return {default_.statistics().peak_reserved_bytes, expandable_.statistics().peak_reserved_bytes};
}

}  // namespace mmoe
