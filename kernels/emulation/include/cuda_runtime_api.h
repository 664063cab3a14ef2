#pragma once
// Stands in for the CUDA runtime's header where kernels are built for the host (target mmoe_kernels_emulated).

#include "kernels/emulation/runtime.h"
