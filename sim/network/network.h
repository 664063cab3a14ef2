#pragma once
// The job's fabric as the collectives see it: what each level's links really reach.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/network/rank_groups.h"
#include "sim/units/units.h"

namespace mmoe {

// What collectives measured of one fabric level's links, in place of what files and efficiencies say. A measured
// latency holds all that small messages wait for, so none is added until links run at full bandwidth.
struct MeasuredLink {
  std::string level;                        // FabricLevel::name
  std::optional<BytesPerSecond> bandwidth;  // of one device, in one direction, as collectives reach it
  std::optional<Seconds> latency;           // of one hop
  std::optional<Collective> kind = {};  // for this kind alone; none: for all kinds that have no numbers of their own
};

// What datasheets do not say about a network; to be calibrated. "Node" is the innermost fabric level, "network" all
// beyond it. Efficiencies are shares of the one-way bandwidth.
struct NetworkParameters {
  double node_efficiency = 0.82;  // NVLink 4 carries 370 of 450 GB/s (NVIDIA/nccl-tests issue 212)
  double network_efficiency = 0.9;
  double switch_reduction_efficiency = 0.69;  // in place of node_efficiency where the switch adds up (same source)
  double all_to_all_efficiency = 0.8;         // on top of each level's own
  double node_latency_factor = 1;             // on the latencies of the cluster file or its defaults
  double network_latency_factor = 1;
  double launch_seconds = 8.4e-6;  // a collective's fixed time; NCCL 2.28 tuning model, base latency of Simple
  bool tree = true;                // whether all-reduce may use trees across nodes; some networks' plug-ins have none
  std::vector<MeasuredLink> measured;
};

// One fitted number of NetworkParameters, with the range that physics allows.
struct NetworkParameterDefinition {
  std::string_view name;
  double NetworkParameters::*value;
  double low, high;
  std::string_view meaning;
};

inline constexpr std::array kNetworkParameters = {
    NetworkParameterDefinition{"node_efficiency", &NetworkParameters::node_efficiency, 0.2, 1,
                               "share of a node's link bandwidth that collectives reach"},
    NetworkParameterDefinition{"network_efficiency", &NetworkParameters::network_efficiency, 0.1, 1,
                               "share of the network's bandwidth that collectives reach"},
    NetworkParameterDefinition{"switch_reduction_efficiency", &NetworkParameters::switch_reduction_efficiency, 0.2, 1,
                               "share of a node's link bandwidth reached where the switch adds up"},
    NetworkParameterDefinition{"all_to_all_efficiency", &NetworkParameters::all_to_all_efficiency, 0.1, 1,
                               "bandwidth of an all-to-all over that of other collectives"},
    NetworkParameterDefinition{"node_latency_factor", &NetworkParameters::node_latency_factor, 0.1, 20,
                               "latency of a hop within a node over the nominal one"},
    NetworkParameterDefinition{"network_latency_factor", &NetworkParameters::network_latency_factor, 0.1, 100,
                               "latency of a hop across nodes over the nominal one"},
    NetworkParameterDefinition{"launch_seconds", &NetworkParameters::launch_seconds, 1e-6, 1e-3,
                               "fixed time of one collective"},
};

// One level's link of one device, in one direction. A message of s bytes runs at bandwidth x s / (s + half_size).
struct Link {
  BytesPerSecond bandwidth;
  Seconds latency;  // of one hop
  Bytes half_size;
  double mesh_links = 0;            // links to one device each that share the bandwidth; 0: a switch
  BytesPerSecond switch_reduction;  // bandwidth where the switch adds up; 0: it does not
};

// Times of one collective on groups that reach a level and no further, by the bytes that cross one device's link there.
// Between sizes along a line; below the least as long as that one; beyond the largest at its bandwidth.
struct MeasuredTimes {
  Collective collective;
  std::vector<double> bytes;    // rising
  std::vector<double> seconds;  // never falling: measured times waver, and a larger message takes no less
  Seconds at(Bytes crossing) const;
};

inline constexpr std::size_t kNumCollectives = static_cast<std::size_t>(Collective::kSend) + 1;
using Links = std::array<Link, kMaxFabricLevels>;

struct Network {
  FabricDomains domains;
  Links links;                                                // with the efficiencies applied
  std::array<std::optional<Links>, kNumCollectives> by_kind;  // of kinds that were measured apart
  const Links& links_of(Collective kind) const {
    const std::optional<Links>& own = by_kind[static_cast<std::size_t>(kind)];
    return own ? *own : links;
  }
  std::array<std::vector<MeasuredTimes>, kMaxFabricLevels> measured;
  Seconds launch;
  double all_to_all_efficiency = 1;
  bool tree = true;
};

// Bytes of a collective's buffer (nccl-tests' size) that cross the link of one device of a level, where the group has
// `members` in a domain of the level below: all of a ring's traffic, through as many links side by side.
Bytes crossing_bytes(Collective collective, double num_ranks, double members_below, Bytes size);

Network make_network(const HardwareConfig& hardware, const NetworkParameters& parameters);

}  // namespace mmoe
