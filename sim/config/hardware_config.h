#pragma once
// The devices a job runs on.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/units/units.h"

namespace mmoe {

// Datasheet numbers of one device; peaks are dense. 0 means not known or not supported.
struct DeviceSpec {
  std::string name;  // "h100-sxm-80gb", "cpu"
  bool is_cpu = false;
  Bytes memory;
  BytesPerSecond memory_bandwidth;
  FlopsPerSecond peak_fp64, peak_fp32, peak_bf16, peak_fp8;
  FlopsPerSecond peak_tf32, peak_fp16, peak_fp4;
  BytesPerSecond link_bandwidth;    // to other devices of the node (NVLink, Infinity Fabric), one direction
  BytesPerSecond host_link;         // to the memory of its host, one direction (PCIe, NVLink-C2C)
  int64_t num_multiprocessors = 0;  // streaming multiprocessors, compute units
  double power_watt = 0;
  std::string usual_cluster;  // a preset: the fabric of jobs that name no cluster
  std::string source;         // where the numbers come from
};

// What a collective is called in nccl-tests.
enum class Collective { kAllReduce, kReduceScatter, kAllGather, kAllToAll, kBroadcast, kSend };

// A collective timed over several sizes, in the columns of nccl-tests: the whole buffer of one rank, bus bandwidth.
struct MeasuredCollective {
  Collective collective = Collective::kAllReduce;
  int64_t num_ranks = 0;     // that ran it, on whole domains of the level below
  std::vector<Bytes> sizes;  // rising
  std::vector<BytesPerSecond> bus_bandwidths;
};

// One level of a cluster's network; bandwidths are of one device, in one direction.
struct FabricLevel {
  std::string name;     // "node", "cluster"
  int64_t devices = 0;  // how many devices it joins; 0: all
  BytesPerSecond bandwidth;
  Seconds latency{3.4e-6};      // of one hop; default: NVLink, ring, in NCCL 2.28's tuning model (Simple protocol)
  Bytes half_size{262144};      // a message of this size reaches half of the bandwidth; default: an estimate
  bool is_mesh = false;         // a link for each pair of devices, which share the bandwidth, in place of a switch
  bool switch_reduces = false;  // the switch adds up what an all-reduce sends through it (NVLink SHARP)
  std::vector<MeasuredCollective> measured;  // in place of bandwidth and latency, of collectives that reach this level
};

inline constexpr int kMaxFabricLevels = 4;

// Nodes, network and running costs. What is 0 is not known.
struct ClusterSpec {
  std::string name;
  std::string device;  // hardware.device where the job names none
  int64_t devices_per_node = 0;
  int64_t devices_per_host = 0;       // of one operating system; jobs take whole hosts. Default: devices_per_node
  std::vector<FabricLevel> levels;    // from the node outwards, at most kMaxFabricLevels
  Bytes host_memory;                  // a device's share of the node's
  BytesPerSecond host_bandwidth;      // the same, reads and writes together
  double price_per_device_hour = 0;   // US dollars
  double hours_between_failures = 0;  // mean, of one device
  double power_watt_per_device = 0;   // with its share of node and network
};

enum class AllocatorKind { kDefault, kExpandableSegments };

struct HardwareConfig {
  std::string device = "cpu";
  DeviceSpec spec;
  int64_t num_devices = 1;
  int64_t devices_per_node = 0;  // default: the cluster's, else the device's usual, else 8; at most num_devices
  std::string cluster;           // a preset or a file; empty: none
  ClusterSpec cluster_spec;
  std::vector<FabricLevel> fabric;  // the cluster's levels, else those usual for the device; never empty
  Bytes usable_memory;              // default: the device's capacity less what the runtime keeps
  AllocatorKind allocator = AllocatorKind::kDefault;

  void validate(const std::string& where) const;
};

}  // namespace mmoe
