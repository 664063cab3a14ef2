#pragma once
// An allocator under LibTorch's meta tensors: they have no memory, but it counts what they would take.

#include <cstdint>

namespace mmoe {

// Replaces LibTorch's own, which counts nothing; later calls do nothing. Tensors that exist stay uncounted.
void install_meta_allocator();

// Bytes of live meta tensors, as asked for, and the most since the last reset_meta_peak().
int64_t meta_bytes();
int64_t meta_peak_bytes();
void reset_meta_peak();

}  // namespace mmoe
