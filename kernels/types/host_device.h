#pragma once
// Functions used on both sides: MMOE_HOST_DEVICE marks them for nvcc and is empty for other compilers.

#ifdef __CUDACC__
#define MMOE_HOST_DEVICE __host__ __device__
#else
#define MMOE_HOST_DEVICE
#endif
