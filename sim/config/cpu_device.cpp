#include "sim/config/cpu_device.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace mmoe {
namespace {

std::string read_file(const char* path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// "key   : value" of a line of /proc/cpuinfo.
std::string value_after_colon(const std::string& line) {
  const auto colon = line.find(':');
  const auto begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
  return begin == std::string::npos ? "" : line.substr(begin);
}

bool has_word(const std::string& text, const std::string& word) {
  return (" " + text + " ").find(" " + word + " ") != std::string::npos;
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// Highest clock in GHz that the kernel knows, or 0.
double max_clock() {
  const std::string khz = read_file("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
  return khz.empty() ? 0 : std::strtod(khz.c_str(), nullptr) * 1e-6;
}

double total_memory() {
  const std::string text = read_file("/proc/meminfo");
  const auto at = text.find("MemTotal:");
  double bytes = at == std::string::npos ? 0 : std::strtod(text.c_str() + at + 9, nullptr) * 1024;
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const double limit = std::strtod(read_file(path).c_str(), nullptr);
    if (limit > 0 && (bytes == 0 || limit < bytes)) bytes = limit;
  }
  return bytes;
}

}  // namespace

CpuFacts parse_cpuinfo(const std::string& text, int usable) {
  CpuFacts facts;
  std::set<std::string> cores;
  std::string package = "0", line;
  double mhz = 0;
  int logical = 0;
  std::istringstream lines(text);
  while (std::getline(lines, line)) {
    if (line.starts_with("processor")) ++logical;
    if (line.starts_with("physical id")) package = value_after_colon(line);
    if (line.starts_with("core id")) cores.insert(package + "/" + value_after_colon(line));
    if (line.starts_with("cpu MHz")) mhz = std::max(mhz, std::strtod(value_after_colon(line).c_str(), nullptr));
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    const std::string flags = value_after_colon(line);
    facts.vector_bits = has_word(flags, "avx512f") ? 512 : has_word(flags, "avx2") ? 256 : 128;
    facts.has_fma = has_word(flags, "fma") || has_word(flags, "asimd");
    facts.has_bf16 = has_word(flags, "avx512_bf16") || has_word(flags, "bf16");
    facts.has_amx = has_word(flags, "amx_bf16");
  }
  const int physical = cores.empty() ? std::max(logical, 1) : static_cast<int>(cores.size());
  facts.cores = std::clamp(usable, 1, physical);
  if (mhz > 0) facts.ghz = mhz * 1e-3;
  return facts;
}

DeviceSpec cpu_device(const CpuFacts& facts) {
  constexpr double kVectorUnits = 2;
  constexpr double kAmxFlopsPerCycle = 1024;  // one 16 x 16 x 32 tile product in 16 cycles
  const double clock = facts.cores * facts.ghz * 1e9;
  const double fp32 = clock * kVectorUnits * (facts.has_fma ? 2 : 1) * facts.vector_bits / 32;
  DeviceSpec spec;
  spec.name = "cpu";
  spec.is_cpu = true;
  spec.memory = Bytes{facts.memory_bytes};
  spec.memory_bandwidth = gb_per_s(std::min(12.0 * facts.cores, 200.0));
  spec.peak_fp32 = spec.peak_tf32 = FlopsPerSecond{fp32};
  spec.peak_fp64 = FlopsPerSecond{fp32 / 2};
  spec.peak_bf16 = FlopsPerSecond{facts.has_amx ? clock * kAmxFlopsPerCycle : facts.has_bf16 ? 2 * fp32 : fp32};
  spec.peak_fp16 = spec.peak_bf16;
  spec.source = "estimate from cores x clock x vector width; memory from /proc/meminfo";
  return spec;
}

DeviceSpec this_machine() {
  CpuFacts facts = parse_cpuinfo(read_file("/proc/cpuinfo"), usable_cpus());
  facts.ghz = std::max(facts.ghz, max_clock());
  facts.memory_bytes = total_memory();
  return cpu_device(facts);
}

}  // namespace mmoe
