#pragma once
// An allocator under LibTorch's CPU tensors that counts every byte asked for, on all threads.

#include <cstdint>
#include <optional>

#include "train/profiling/reserved_replay.h"

namespace mmoe {

// Replaces LibTorch's CPU allocator. Call first thing in main, before any tensor exists; later calls do nothing.
void install_counting_allocator();

// Bytes of live CPU tensor memory, as asked for (no rounding, no headers).
int64_t counted_bytes();

// Largest counted_bytes() since the last reset_counted_peak().
int64_t counted_peak_bytes();
void reset_counted_peak();

// From now on new tensors also go through the model of the GPU's caching allocator. Call before tensors exist.
void replay_caching_allocator();
// Peaks since the last reset_counted_peak(); nothing without replay_caching_allocator().
std::optional<ReplayedReserved> replayed_reserved_peaks();

}  // namespace mmoe
