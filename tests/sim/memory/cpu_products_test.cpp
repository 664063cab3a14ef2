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
  const bool library = has(" amx_bf16") || (has("AuthenticAMD") && has(" avx512_bf16"));
  EXPECT_EQ(faster_cpu_bf16_products(), library ? CpuBf16Products::kLibrary : CpuBf16Products::kKernel);
  EXPECT_EQ(cpu_bf16_products(), faster_cpu_bf16_products());
}

}  // namespace
}  // namespace mmoe
