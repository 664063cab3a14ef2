#include "sim/config/hardware_config.h"

#include <algorithm>

#include "sim/config/device_file.h"
#include "sim/config/sections.h"

namespace mmoe {
namespace {

constexpr int64_t kMaxDevices = 1 << 24;
// What driver, context, NCCL and the framework keep for themselves. Of an 80 GiB H100 76 are left.
constexpr double kUsableShareOfGpu = 0.95;
// Left to the operating system and the program itself.
constexpr double kUsableShareOfCpu = 0.9;

}  // namespace

HardwareConfig read_hardware(JsonReader& root, const std::string& folder) {
  JsonReader section = root.child("hardware");
  HardwareConfig hardware;
  section.read("num_devices", hardware.num_devices, 1, kMaxDevices);
  section.read("cluster", hardware.cluster);
  if (!hardware.cluster.empty()) {
    if (names_file(hardware.cluster)) hardware.cluster = resolve_path(hardware.cluster, folder);
    hardware.cluster_spec = load_cluster(hardware.cluster, root.where() + ": hardware.cluster");
    if (!hardware.cluster_spec.device.empty()) hardware.device = hardware.cluster_spec.device;
    hardware.devices_per_node = hardware.cluster_spec.devices_per_node;
  }
  if (hardware.cluster_spec.device.empty()) section.require("device", "give a device's name, cpu for this machine");
  section.read("device", hardware.device);
  if (names_file(hardware.device)) hardware.device = resolve_path(hardware.device, folder);
  hardware.spec = load_device(hardware.device, root.where() + ": hardware.device");
  section.read("devices_per_node", hardware.devices_per_node, 1, kMaxDevices);
  if (hardware.devices_per_node == 0) hardware.devices_per_node = 8;
  hardware.devices_per_node = std::min(hardware.devices_per_node, hardware.num_devices);
  const double share =
      hardware.spec.is_cpu ? kUsableShareOfCpu / static_cast<double>(hardware.devices_per_node) : kUsableShareOfGpu;
  double usable_gib = share * hardware.spec.memory.value / gib(1).value;
  section.read("usable_memory_gib", usable_gib, 0, 1e9);
  hardware.usable_memory = gib(usable_gib);
  section.read_enum("allocator", hardware.allocator);
  section.finish();
  return hardware;
}

void HardwareConfig::validate(const std::string& where) const {
  const double usable_gib = usable_memory / gib(1);
  if (!(usable_gib > 0)) {
    throw ConfigError(about(where, "hardware.usable_memory_gib", usable_gib) + "must be above 0");
  }
  if (!spec.is_cpu && usable_memory > spec.memory) {
    throw ConfigError(about(where, "hardware.usable_memory_gib", usable_gib) + "is more than " + device + " has (" +
                      to_string(spec.memory) + ")");
  }
  if (num_devices % devices_per_node != 0 && num_devices > devices_per_node) {
    throw ConfigError(about(where, "hardware.num_devices", num_devices) +
                      "is no multiple of hardware.devices_per_node = " + std::to_string(devices_per_node) +
                      "; use whole nodes, e.g. " +
                      std::to_string((num_devices / devices_per_node + 1) * devices_per_node));
  }
}

nlohmann::json to_json(const HardwareConfig& hardware) {
  nlohmann::json json{{"device", hardware.device},
                      {"num_devices", hardware.num_devices},
                      {"devices_per_node", hardware.devices_per_node},
                      {"usable_memory_gib", hardware.usable_memory / gib(1)},
                      {"allocator", name_of(hardware.allocator)}};
  if (!hardware.cluster.empty()) json["cluster"] = hardware.cluster;
  return json;
}

}  // namespace mmoe
