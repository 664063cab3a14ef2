#include "sim/network/network.h"

#include <algorithm>
#include <cmath>

#include "sim/units/errors.h"

namespace mmoe {

Seconds MeasuredTimes::at(Bytes crossing) const {
  const double size = crossing.value;
  if (size <= bytes.front()) return Seconds{seconds.front()};
  if (size >= bytes.back()) return Seconds{seconds.back() * size / bytes.back()};
  const auto right = std::upper_bound(bytes.begin(), bytes.end(), size) - bytes.begin();
  const double share = (size - bytes[right - 1]) / (bytes[right] - bytes[right - 1]);
  return Seconds{std::lerp(seconds[right - 1], seconds[right], share)};
}

Bytes crossing_bytes(Collective collective, double num_ranks, double members_below, Bytes size) {
  switch (collective) {
    case Collective::kAllReduce:
      return size * (2 * (1 - 1 / num_ranks) / members_below);
    case Collective::kReduceScatter:
    case Collective::kAllGather:
      return size * ((1 - 1 / num_ranks) / members_below);
    case Collective::kAllToAll:  // each rank to those outside of its own domain
      return size * (1 - members_below / num_ranks);
    case Collective::kBroadcast:
      return size * (1 / members_below);
    case Collective::kSend:
      break;
  }
  return size;
}

namespace {

MeasuredTimes measured_times(const MeasuredCollective& measured, double members_below) {
  MeasuredTimes times{measured.collective, {}, {}};
  const auto ranks = static_cast<double>(measured.num_ranks);
  double longest = 0;
  for (std::size_t i = 0; i < measured.sizes.size(); ++i) {
    const Bytes size = measured.sizes[i];
    const Bytes on_bus = crossing_bytes(measured.collective, ranks, 1, size);
    longest = std::max(longest, (on_bus / measured.bus_bandwidths[i]).value);
    times.bytes.push_back(crossing_bytes(measured.collective, ranks, members_below, size).value);
    times.seconds.push_back(longest);
  }
  return times;
}

void take(const MeasuredLink& measured, Link& link) {
  link.bandwidth = measured.bandwidth.value_or(link.bandwidth);
  if (!measured.latency) return;
  link.latency = *measured.latency;
  link.half_size = Bytes{0};
}

}  // namespace

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
    const double below = is_node ? 1 : static_cast<double>(network.domains.devices[i - 1]);
    for (const MeasuredCollective& measured : level.measured) {
      const double members = std::min(below, static_cast<double>(measured.num_ranks));
      network.measured[i].push_back(measured_times(measured, members));
    }
    if (is_node && level.switch_reduces)
      link.switch_reduction = level.bandwidth * parameters.switch_reduction_efficiency;
    for (const MeasuredLink& measured : parameters.measured) {
      if (measured.level == level.name && !measured.kind) take(measured, link);
    }
  }
  for (const MeasuredLink& measured : parameters.measured) {
    for (std::size_t i = 0; measured.kind && i < levels.size(); ++i) {
      if (measured.level != levels[i].name) continue;
      std::optional<Links>& own = network.by_kind[static_cast<std::size_t>(*measured.kind)];
      if (!own) own = network.links;
      take(measured, (*own)[i]);
    }
  }
  return network;
}

}  // namespace mmoe
