#pragma once
// The device "cpu": the machine that the program runs on.

#include <string>

#include "sim/config/hardware_config.h"

namespace mmoe {

// What /proc and /sys say about a CPU; the estimates below follow from it.
struct CpuFacts {
  int cores = 1;          // physical cores this process may use
  double ghz = 2.5;       // highest clock that is known; 2.5 where the machine says nothing
  int vector_bits = 128;  // widest SIMD: 512 AVX-512, 256 AVX2, 128 SSE or NEON
  bool has_fma = false;
  bool has_bf16 = false;    // AVX512_BF16
  bool has_amx = false;     // AMX tiles with bf16
  double memory_bytes = 0;  // physical memory, or the container's limit if lower
};

// Facts from the text of /proc/cpuinfo (one block a logical CPU); `usable_cpus` limits the number of cores.
CpuFacts parse_cpuinfo(const std::string& text, int usable_cpus);

// Peaks = cores x clock x operations a cycle (two vector units; a multiply-add is two); bandwidth 12 GB/s a core, at
// most 200. Estimates, labelled so in `source`; calibration replaces them.
DeviceSpec cpu_device(const CpuFacts& facts);

// cpu_device of this machine: /proc/cpuinfo, /proc/meminfo, the CPU affinity and the cgroup's memory limit.
DeviceSpec this_machine();

}  // namespace mmoe
