#pragma once
// Allocated bytes of the training device: the counting allocator on the CPU, the caching allocator on CUDA, and of meta
// tensors what they would take.

#include <c10/core/Device.h>

#include <cstdint>

namespace mmoe {

int64_t allocated_bytes(c10::Device device);
// Peaks since the last reset_peak_bytes(). Reserved equals allocated on the CPU and meta.
int64_t peak_allocated_bytes(c10::Device device);
int64_t peak_reserved_bytes(c10::Device device);
void reset_peak_bytes(c10::Device device);

// Resident bytes of this process, from /proc/self/status.
int64_t resident_bytes();
// Largest resident bytes of this process so far (VmHWM).
int64_t peak_resident_bytes();

}  // namespace mmoe
