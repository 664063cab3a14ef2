#pragma once
// A profile: what was measured on one machine, per operation, per step and per collective. The file is described in
// profiles/schema/profile.md.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/units/units.h"

namespace mmoe {

inline constexpr int kProfileSchemaVersion = 1;

// Where and with what software the records were measured.
struct ProfileMachine {
  std::string device;     // "cpu" or a device name as in hardware.device
  std::string processor;  // "AMD EPYC 9R14", "NVIDIA H100 80GB HBM3"
  int64_t cores = 0;
  int64_t threads = 0;
  std::string libtorch;
  std::string cuda;  // empty: none
  std::string driver;
  std::string commit;  // of this software
};

// Repeated timings of one thing. 0 <= p10 <= median <= p90, repetitions >= 1.
struct Timing {
  Seconds median;
  Seconds p10;
  Seconds p90;
  int64_t repetitions = 0;
};

// One operation in one phase of one layer: all its calls for one micro-batch (for phase `update`: for one step).
struct OperationRecord {
  int64_t job = 0;        // index into Profile::jobs
  std::string operation;  // "experts"; the names are those of sim/throughput/operations.h
  std::string phase;      // "forward", "backward", "recompute", "update"
  int64_t layer = -1;     // -1: belongs to no layer
  int64_t k = 0;          // active experts; 0: does not depend on k
  Timing seconds;
  Bytes kept;       // allocated after minus before; negative when the operation frees more than it keeps
  Bytes transient;  // high water during the operation above its start
};

// Whole steps with the same draw.
struct StepRecord {
  int64_t job = 0;
  std::vector<std::vector<int>> k_per_layer;  // [micro-batch][MoE layer]
  Timing seconds;
  Bytes peak_allocated;
  std::optional<Bytes> predicted_peak_allocated;  // by the simulator with framework overhead 0
};

// One collective over groups of one name, alone and in step: all groups of that name at once, every rank at the same
// moment.
struct CollectiveRecord {
  int64_t job = 0;         // index into Profile::jobs
  std::string collective;  // "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"
  std::string group;       // "data", "expert", ...: the names of sim/network/rank_groups.h
  int64_t group_size = 0;
  bool within_node = true;  // whether every such group lies on one host
  int64_t calls = 0;        // of about this size in the measured run, all ranks together
  Bytes bytes_per_call;     // that a rank hands to one call: its own input
  Timing seconds;           // of one call, begin to end
};

// Rates that the machine reached in the plainest benchmark; the roofs of the model.
struct MachinePeaks {
  BytesPerSecond stream_bandwidth;                    // 0: not measured
  std::map<std::string, FlopsPerSecond> matmul_rate;  // by precision: "fp32", "bf16", "fp64"
};

struct Profile {
  int schema_version = kProfileSchemaVersion;
  ProfileMachine machine;
  std::vector<nlohmann::json> jobs;  // resolved job files: the job itself, then probes of other shapes
  MachinePeaks peaks;
  std::vector<OperationRecord> operations;
  std::vector<StepRecord> steps;
  std::vector<CollectiveRecord> collectives;  // of runs on several devices
};

// Reads and checks a profile; throws ConfigError naming the file and the JSON key.
Profile load_profile(const std::string& path);
Profile parse_profile(const nlohmann::json& json, const std::string& where);

nlohmann::json to_json(const Profile& profile);

// Writes atomically; throws std::system_error when the disk does not take it.
void save_profile(const Profile& profile, const std::string& path);

}  // namespace mmoe
