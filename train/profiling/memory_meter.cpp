#include "train/profiling/memory_meter.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <fstream>
#include <string>

#include "sim/units/errors.h"
#include "train/profiling/counting_allocator.h"
#include "train/profiling/meta_allocator.h"

namespace mmoe {
namespace {

using c10::CachingAllocator::StatType;

constexpr auto kAggregate = static_cast<size_t>(StatType::AGGREGATE);

c10::DeviceAllocator& device_allocator(c10::Device device) { return *c10::getDeviceAllocator(device.type()); }

// A line "NAME:   123 kB" of /proc/self/status, in bytes.
int64_t status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  MMOE_CHECK(false) << "/proc/self/status has no " << name;
  return 0;
}

}  // namespace

int64_t allocated_bytes(c10::Device device) {
  if (device.is_cpu()) return counted_bytes();
  if (device.is_meta()) return meta_bytes();
  return device_allocator(device).getDeviceStats(device.index()).allocated_bytes[kAggregate].current;
}

int64_t peak_allocated_bytes(c10::Device device) {
  if (device.is_cpu()) return counted_peak_bytes();
  if (device.is_meta()) return meta_peak_bytes();
  return device_allocator(device).getDeviceStats(device.index()).allocated_bytes[kAggregate].peak;
}

int64_t peak_reserved_bytes(c10::Device device) {
  if (device.is_cpu()) return counted_peak_bytes();
  if (device.is_meta()) return meta_peak_bytes();
  return device_allocator(device).getDeviceStats(device.index()).reserved_bytes[kAggregate].peak;
}

void reset_peak_bytes(c10::Device device) {
  if (device.is_cpu()) return reset_counted_peak();
  if (device.is_meta()) return reset_meta_peak();
  device_allocator(device).resetPeakStats(device.index());
}

int64_t resident_bytes() { return status_bytes("VmRSS"); }
int64_t peak_resident_bytes() { return status_bytes("VmHWM"); }

}  // namespace mmoe
