#include "sim/memory/cpu_products.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace mmoe {
namespace {

// As the operating system names what the processor has.
TEST(CpuProducts, FollowTheProcessor) {
  std::ifstream file("/proc/cpuinfo");
  std::stringstream text;
  text << file.rdbuf();
  const auto has = [info = text.str()](const std::string& word) { return info.find(word) != std::string::npos; };
  if (!has("vendor_id")) GTEST_SKIP() << "no /proc/cpuinfo of an x86 processor";
  EXPECT_EQ(faster_cpu_bf16_products(), has(" amx_bf16") ? CpuProducts::kLibrary : CpuProducts::kKernel);
  EXPECT_EQ(cpu_bf16_products(), faster_cpu_bf16_products());
  const bool fp32_by_kernel = has("AuthenticAMD") && has(" avx512bw");
  EXPECT_EQ(faster_cpu_fp32_products(), fp32_by_kernel ? CpuProducts::kKernel : CpuProducts::kLibrary);
  EXPECT_EQ(cpu_fp32_products(), faster_cpu_fp32_products());
  EXPECT_EQ(cpu_attention(), faster_cpu_attention());
}

}  // namespace
}  // namespace mmoe
