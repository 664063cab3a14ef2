#include "sim/network/network.h"

#include <algorithm>

#include "sim/units/errors.h"

namespace mmoe {

Network make_network(const HardwareConfig& hardware, const NetworkParameters& parameters) {
  const auto& levels = hardware.fabric;
  MMOE_CHECK(!levels.empty() && levels.size() <= kMaxFabricLevels) << levels.size() << " fabric levels";
  Network network;
  network.launch = Seconds{parameters.launch_seconds};
  network.all_to_all_efficiency = parameters.all_to_all_efficiency;
  network.tree = parameters.tree;
  network.domains.num_levels = static_cast<int>(levels.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const FabricLevel& level = levels[i];
    const bool is_node = i == 0;
    const bool joins_all = level.devices == 0 || i + 1 == levels.size();
    const int64_t devices = is_node ? hardware.devices_per_node : joins_all ? hardware.num_devices : level.devices;
    network.domains.devices[i] = std::min(devices, hardware.num_devices);
    Link& link = network.links[i];
    link.bandwidth = level.bandwidth * (is_node ? parameters.node_efficiency : parameters.network_efficiency);
    link.latency = level.latency * (is_node ? parameters.node_latency_factor : parameters.network_latency_factor);
    link.half_size = level.half_size;
    if (level.is_mesh) link.mesh_links = static_cast<double>(level.devices - 1);
    if (is_node && level.switch_reduces)
      link.switch_reduction = level.bandwidth * parameters.switch_reduction_efficiency;
  }
  return network;
}

}  // namespace mmoe
