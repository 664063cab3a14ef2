#include "sim/network/collectives.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

namespace mmoe {
namespace {

// NCCL 2.28 tuning model, NVLink SHARP: entry to exit, whatever the number of ranks.
constexpr Seconds kSwitchReductionLatency{25e-6};

double members_below(const GroupPlacement& group, int level) {
  return level == 0 ? 1 : static_cast<double>(group.members[level - 1]);
}

double members_of(const GroupPlacement& group, int level) { return static_cast<double>(group.members[level]); }

// A device reaches the others of a mesh over one link each, so m members use m - 1 of them.
double share_of_links(const Links& links, int level, double members) {
  const Link& link = links[level];
  return link.mesh_links > 0 ? std::min(1.0, (members - 1) / link.mesh_links) : 1;
}

double bytes_per_second(const Links& links, int level, double members) {
  return links[level].bandwidth.value * share_of_links(links, level, members);
}

// By what was measured on groups that reach as far as this one, if anything was.
std::optional<Seconds> measured_seconds(const Network& network, const GroupPlacement& group, Collective collective,
                                        Bytes size) {
  const int level = farthest_level(group);
  if (level < 0) return std::nullopt;
  for (const MeasuredTimes& times : network.measured[level]) {
    if (times.collective != collective) continue;
    const Bytes crossing =
        crossing_bytes(collective, static_cast<double>(group.size), members_below(group, level), size);
    return times.at(crossing * (1 / share_of_links(network.links, level, members_of(group, level))));
  }
  return std::nullopt;
}

// Levels that the group's traffic crosses, each with its hops and its time for a byte out of every member.
struct Crossing {
  double fixed = 0;     // s: one run around the ring's hops
  double fill = 0;      // s: until links run at full bandwidth
  double per_byte = 0;  // s: of the slowest level
};

Crossing ring(const Links& links, const GroupPlacement& group) {
  const double n = static_cast<double>(group.size);
  Crossing crossing;
  for (int level = 0; level < group.num_levels; ++level) {
    const double below = members_below(group, level), here = members_of(group, level);
    if (here <= below) continue;
    const double rate = bytes_per_second(links, level, here);
    crossing.fixed += (n / below - n / here) * links[level].latency.value;
    crossing.fill += links[level].half_size.value / rate;
    crossing.per_byte = std::max(crossing.per_byte, 1 / (below * rate));
  }
  return crossing;
}

// Up and down trees across nodes; within the node chains, or the switch where `by_switch`.
Crossing tree(const Links& links, const GroupPlacement& group, bool by_switch) {
  Crossing crossing;
  for (int level = 0; level < group.num_levels; ++level) {
    const double below = members_below(group, level), here = members_of(group, level);
    if (here <= below) continue;
    const Link& link = links[level];
    if (level == 0 && by_switch) {
      crossing.fixed += kSwitchReductionLatency.value;
      crossing.fill += link.half_size.value / link.switch_reduction.value;
      crossing.per_byte = std::max(crossing.per_byte, (1 + 1 / here) / link.switch_reduction.value);
      continue;
    }
    const double rate = bytes_per_second(links, level, here);
    const auto parts = static_cast<uint64_t>(std::ceil(here / below));
    const double hops = level == 0 ? here - 1 : static_cast<double>(std::bit_width(parts - 1));
    const double passes = level > 0 && parts == 2 ? 1 : 2;
    crossing.fixed += 2 * hops * link.latency.value;
    crossing.fill += link.half_size.value / rate;
    crossing.per_byte = std::max(crossing.per_byte, passes / (below * rate));
  }
  return crossing;
}

double seconds(const Crossing& crossing, double bytes) {
  return crossing.fixed + crossing.fill + bytes * crossing.per_byte;
}

// What a ring leaves to send: a rank's own part never leaves it.
double share_of_others(const GroupPlacement& group) { return 1 - 1 / static_cast<double>(group.size); }

// Every rank's part of `size` to all others, or of all to it.
Seconds once_around(const Links& links, const GroupPlacement& group, Bytes size) {
  return Seconds{seconds(ring(links, group), share_of_others(group) * size.value)};
}

// Messages to `peers` members of a level, side by side.
double exchange(const Network& network, const GroupPlacement& group, int level, double peers, double bytes) {
  const Links& links = network.links_of(Collective::kAllToAll);
  const double rate = bytes_per_second(links, level, members_of(group, level)) * network.all_to_all_efficiency;
  return (bytes + peers * links[level].half_size.value) / rate;
}

}  // namespace

int farthest_level(const GroupPlacement& group) {
  int level = group.num_levels - 1;
  while (level >= 0 && members_of(group, level) <= members_below(group, level)) --level;
  return level;
}

Seconds all_reduce(const Network& network, const GroupPlacement& group, Bytes size) {
  if (group.size == 1) return {};
  if (const auto time = measured_seconds(network, group, Collective::kAllReduce, size)) return *time;
  const Links& links = network.links_of(Collective::kAllReduce);
  Crossing around = ring(links, group);
  around.fixed *= 2;
  double best = seconds(around, 2 * share_of_others(group) * size.value);
  if (network.tree) best = std::min(best, seconds(tree(links, group, false), size.value));
  const bool across = group.members[0] < group.size;
  if (links[0].switch_reduction.value > 0 && group.members[0] > 1 && (network.tree || !across))
    best = std::min(best, seconds(tree(links, group, true), size.value));
  return network.launch + Seconds{best};
}

Seconds reduce_scatter(const Network& network, const GroupPlacement& group, Bytes size) {
  if (group.size == 1) return {};
  if (const auto time = measured_seconds(network, group, Collective::kReduceScatter, size)) return *time;
  return network.launch + once_around(network.links_of(Collective::kReduceScatter), group, size);
}

// The reduce-scatter backwards, unless it was measured itself.
Seconds all_gather(const Network& network, const GroupPlacement& group, Bytes size) {
  if (group.size == 1) return {};
  for (const Collective kind : {Collective::kAllGather, Collective::kReduceScatter}) {
    if (const auto time = measured_seconds(network, group, kind, size)) return *time;
  }
  return network.launch + once_around(network.links_of(Collective::kAllGather), group, size);
}

Seconds broadcast(const Network& network, const GroupPlacement& group, Bytes size) {
  if (group.size == 1) return {};
  if (const auto time = measured_seconds(network, group, Collective::kBroadcast, size)) return *time;
  return network.launch + Seconds{seconds(ring(network.links_of(Collective::kBroadcast), group), size.value)};
}

Seconds all_to_all(const Network& network, const GroupPlacement& group, Bytes hottest) {
  if (const auto time = measured_seconds(network, group, Collective::kAllToAll, hottest)) return *time;
  double latency = 0, slowest = 0;
  for (int level = 0; level < group.num_levels; ++level) {
    const double peers = members_of(group, level) - members_below(group, level);
    if (peers <= 0) continue;
    const double bytes = hottest.value * peers / static_cast<double>(group.size);
    latency = std::max(latency, network.links_of(Collective::kAllToAll)[level].latency.value);
    slowest = std::max(slowest, exchange(network, group, level, peers, bytes));
  }
  return group.size == 1 ? Seconds{} : network.launch + Seconds{latency + slowest};
}

Seconds hierarchical_all_to_all(const Network& network, const GroupPlacement& group, Bytes across, Bytes within) {
  Seconds time;
  if (const int level = farthest_level(group); level > 0) {
    const double nodes = static_cast<double>(group.size) / members_of(group, 0);
    time += network.launch + network.links_of(Collective::kAllToAll)[level].latency +
            Seconds{exchange(network, group, level, nodes - 1, across.value)};
  }
  if (group.members[0] > 1) {
    time += network.launch + network.links_of(Collective::kAllToAll)[0].latency +
            Seconds{exchange(network, group, 0, members_of(group, 0) - 1, within.value)};
  }
  return time;
}

Seconds send(const Network& network, const GroupPlacement& group, Bytes size) {
  const int level = farthest_level(group);
  if (level < 0) return {};
  if (const auto time = measured_seconds(network, group, Collective::kSend, size)) return *time;
  const Links& links = network.links_of(Collective::kSend);
  const Link& link = links[level];
  return network.launch + link.latency + Seconds{(size + link.half_size).value / bytes_per_second(links, level, 2)};
}

Seconds collective_seconds(const Network& network, const GroupPlacement& group, Collective collective, Bytes input) {
  switch (collective) {
    case Collective::kAllReduce:
      return all_reduce(network, group, input);
    case Collective::kReduceScatter:
      return reduce_scatter(network, group, input);
    case Collective::kAllGather:
      return all_gather(network, group, input * static_cast<double>(group.size));
    case Collective::kAllToAll:
      return all_to_all(network, group, input);
    case Collective::kBroadcast:
      return broadcast(network, group, input);
    case Collective::kSend:
      break;
  }
  return send(network, group, input);
}

BytesPerSecond bus_bandwidth(Collective collective, int64_t num_ranks, Bytes size, Seconds time) {
  return crossing_bytes(collective, static_cast<double>(num_ranks), 1, size) / time;
}

}  // namespace mmoe
