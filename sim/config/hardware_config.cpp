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

// Levels of the named cluster, else of the device's usual one, else its own links with no network beyond them.
std::vector<FabricLevel> fabric_levels(const ClusterSpec& cluster, const ClusterSpec& usual, const DeviceSpec& spec) {
  if (!cluster.levels.empty()) return cluster.levels;
  if (!usual.levels.empty()) return usual.levels;
  FabricLevel level;
  level.name = "node";
  level.bandwidth = spec.link_bandwidth;
  if (spec.is_cpu) {  // estimates: a message through shared memory is written and read twice, with a system call
    level.bandwidth = spec.memory_bandwidth / 4;
    level.latency = Seconds{30e-6};
  }
  return {level};
}

// Jobs of many nodes fill each with as many whole hosts as divide them evenly, as schedulers do with racks: of nodes
// with 72 devices on hosts of 4, 1,024 devices take 64 of each.
int64_t evenly_filled(const ClusterSpec& cluster, int64_t num_devices) {
  const int64_t whole = cluster.devices_per_node, host = cluster.devices_per_host;
  if (num_devices <= whole) return whole;
  for (int64_t devices = whole; devices > 0; devices -= host) {
    if (num_devices % devices == 0) return devices;
  }
  return whole;  // validate says that nodes are not whole
}

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
  }
  if (hardware.cluster_spec.device.empty()) section.require("device", "give a device's name, cpu for this machine");
  section.read("device", hardware.device);
  if (names_file(hardware.device)) hardware.device = resolve_path(hardware.device, folder);
  hardware.spec = load_device(hardware.device, root.where() + ": hardware.device");
  ClusterSpec usual;
  if (!hardware.spec.usual_cluster.empty()) {
    usual = load_cluster(hardware.spec.usual_cluster, hardware.device + ": usual_cluster");
  }
  section.read("devices_per_node", hardware.devices_per_node, 1, kMaxDevices);
  if (hardware.devices_per_node == 0) {
    const ClusterSpec& nodes = hardware.cluster_spec.devices_per_node > 0 ? hardware.cluster_spec : usual;
    hardware.devices_per_node = nodes.devices_per_node > 0 ? evenly_filled(nodes, hardware.num_devices) : 8;
  }
  hardware.devices_per_node = std::min(hardware.devices_per_node, hardware.num_devices);
  hardware.fabric = fabric_levels(hardware.cluster_spec, usual, hardware.spec);
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
  const bool links_known = num_devices == 1 || fabric.empty() || fabric[0].bandwidth.value > 0;
  const bool network_known = num_devices <= devices_per_node || fabric.size() > 1;
  if (!spec.is_cpu && !(links_known && network_known)) {
    throw ConfigError(about(where, "hardware.num_devices", num_devices) + "needs a network that " +
                      (cluster.empty() ? device : cluster) +
                      " does not describe; give hardware.cluster with a level for the node and one beyond it");
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
