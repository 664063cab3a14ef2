#pragma once
// Shapes of the LibTorch operators of a training step for which C++ LibTorch has no Meta kernel (its own are in
// Python).

namespace mmoe {

// Registers them; later calls do nothing. Attention takes the fused path, as on the CPU and on GPUs, with the scratch
// memory of the device that StandIn names.
void install_meta_kernels();

}  // namespace mmoe
