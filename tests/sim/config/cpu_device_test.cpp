#include "sim/config/cpu_device.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

constexpr const char* kTwoCoresFourThreads = R"(processor	: 0
cpu MHz		: 2000.000
physical id	: 0
core id		: 0
flags		: fpu fma avx2 avx512f avx512_bf16
processor	: 1
cpu MHz		: 3000.000
physical id	: 0
core id		: 0
flags		: fpu fma avx2 avx512f avx512_bf16
processor	: 2
physical id	: 0
core id		: 1
processor	: 3
physical id	: 0
core id		: 1
)";

TEST(CpuInfo, CountsPhysicalCoresAndTheWidestVectors) {
  const CpuFacts facts = parse_cpuinfo(kTwoCoresFourThreads, 4);
  EXPECT_EQ(facts.cores, 2);
  EXPECT_EQ(facts.ghz, 3.0);
  EXPECT_EQ(facts.vector_bits, 512);
  EXPECT_TRUE(facts.has_fma);
  EXPECT_TRUE(facts.has_bf16);
  EXPECT_FALSE(facts.has_amx);
}

TEST(CpuInfo, AffinityLimitsTheCores) { EXPECT_EQ(parse_cpuinfo(kTwoCoresFourThreads, 1).cores, 1); }

TEST(CpuInfo, ArmSaysLess) {
  const CpuFacts facts = parse_cpuinfo("processor : 0\nFeatures : fp asimd bf16\nprocessor : 1\n", 8);
  EXPECT_EQ(facts.cores, 2);
  EXPECT_EQ(facts.vector_bits, 128);
  EXPECT_TRUE(facts.has_fma);
  EXPECT_TRUE(facts.has_bf16);
}

TEST(CpuDevice, PeaksFollowFromTheFacts) {
  const DeviceSpec spec = cpu_device({.cores = 2,
                                      .ghz = 3,
                                      .vector_bits = 512,
                                      .has_fma = true,
                                      .has_bf16 = false,
                                      .has_amx = false,
                                      .memory_bytes = 1e10});
  // 2 cores x 3 GHz x 2 units x 16 lanes x 2 operations of a multiply-add.
  EXPECT_DOUBLE_EQ(spec.peak_fp32.value, 2 * 3e9 * 64);
  EXPECT_DOUBLE_EQ(spec.peak_fp64.value, spec.peak_fp32.value / 2);
  EXPECT_EQ(spec.peak_bf16, spec.peak_fp32);
  EXPECT_EQ(spec.memory, Bytes{1e10});
  EXPECT_NE(spec.source.find("estimate"), std::string::npos);
}

TEST(CpuDevice, ThisMachineHasMemoryAndSpeed) {
  const DeviceSpec spec = this_machine();
  EXPECT_TRUE(spec.is_cpu);
  EXPECT_GT(spec.memory, gib(0.1));
  EXPECT_GT(spec.peak_fp32, tflop_per_s(0.001));
  EXPECT_GT(spec.memory_bandwidth.value, 0);
}

}  // namespace
}  // namespace mmoe
