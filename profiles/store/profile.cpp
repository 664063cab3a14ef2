#include "profiles/store/profile.h"

#include <algorithm>
#include <array>
#include <limits>

#include "profiles/store/atomic_file.h"
#include "profiles/store/json_fields.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kMaxSeconds = 1e7;        // four months: anything longer is no measurement
constexpr double kMaxBytes = 9.0e15;       // 2^53, where double stops counting every byte
constexpr int64_t kMaxCount = 1000000000;  // layers, experts, repetitions: far above what exists
constexpr std::array kCollectives = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"};
constexpr std::array kPhases = {"forward", "backward", "recompute", "update"};

std::string item_key(const char* list, size_t index) { return std::string(list) + "[" + std::to_string(index) + "]"; }

ProfileMachine parse_machine(const nlohmann::json& json, const std::string& where) {
  JsonFields fields(json, where, "machine");
  ProfileMachine machine;
  machine.device = fields.text("device");
  if (machine.device.empty()) fields.fail("device", "must not be empty");
  machine.processor = fields.text("processor");
  machine.cores = fields.integer("cores", 0, kMaxCount);
  machine.threads = fields.integer("threads", 0, kMaxCount);
  machine.libtorch = fields.text("libtorch");
  machine.cuda = fields.text("cuda");
  machine.driver = fields.text("driver");
  machine.commit = fields.text("commit");
  fields.finish();
  return machine;
}

// Reads "seconds" and "repetitions" of a record.
Timing parse_timing(JsonFields& record) {
  JsonFields fields(record.object("seconds"), record.where(), record.key_of("seconds"));
  Timing timing;
  timing.median = Seconds{fields.number("median", 0, kMaxSeconds)};
  timing.p10 = Seconds{fields.number("p10", 0, kMaxSeconds)};
  timing.p90 = Seconds{fields.number("p90", 0, kMaxSeconds)};
  fields.finish();
  if (timing.p10 > timing.median) fields.fail("p10", "is above median; a 10th percentile cannot be");
  if (timing.p90 < timing.median) fields.fail("p90", "is below median; a 90th percentile cannot be");
  timing.repetitions = record.integer("repetitions", 1, kMaxCount);
  return timing;
}

OperationRecord parse_operation(const nlohmann::json& json, const std::string& where, size_t index, size_t num_jobs) {
  JsonFields fields(json, where, item_key("operations", index));
  OperationRecord record;
  record.job = fields.integer("job", 0, static_cast<int64_t>(num_jobs) - 1);
  record.operation = fields.text("operation");
  if (record.operation.empty()) fields.fail("operation", "must not be empty");
  record.phase = fields.text("phase");
  bool known = false;
  for (const char* phase : kPhases) known = known || record.phase == phase;
  if (!known) fields.fail("phase", "= \"" + record.phase + "\" is none of forward, backward, recompute, update");
  record.layer = fields.integer("layer", -1, kMaxCount);
  record.k = fields.integer("k", 0, kMaxCount);
  record.seconds = parse_timing(fields);
  record.kept = Bytes{fields.number("kept_bytes", -kMaxBytes, kMaxBytes)};
  record.transient = Bytes{fields.number("transient_bytes", 0, kMaxBytes)};
  fields.finish();
  return record;
}

std::vector<std::vector<int>> parse_draws(JsonFields& fields) {
  std::vector<std::vector<int>> draws;
  for (const nlohmann::json& micro_batch : fields.array("k_per_layer")) {
    if (!micro_batch.is_array()) fields.fail("k_per_layer", "must be a list of lists, [micro-batch][layer]");
    std::vector<int>& row = draws.emplace_back();
    for (const nlohmann::json& k : micro_batch) {
      if (!k.is_number_integer() || k < 0 || k > kMaxCount) {
        fields.fail("k_per_layer", "must hold whole numbers of active experts");
      }
      row.push_back(k.get<int>());
    }
    if (row.size() != draws.front().size()) {
      fields.fail("k_per_layer", "must have the same number of layers for every micro-batch");
    }
  }
  if (draws.empty()) fields.fail("k_per_layer", "must hold at least one micro-batch");
  return draws;
}

StepRecord parse_step(const nlohmann::json& json, const std::string& where, size_t index, size_t num_jobs) {
  JsonFields fields(json, where, item_key("steps", index));
  StepRecord record;
  record.job = fields.integer("job", 0, static_cast<int64_t>(num_jobs) - 1);
  record.k_per_layer = parse_draws(fields);
  record.seconds = parse_timing(fields);
  record.peak_allocated = Bytes{fields.number("peak_allocated_bytes", 0, kMaxBytes)};
  if (fields.has("predicted_peak_allocated_bytes")) {
    record.predicted_peak_allocated = Bytes{fields.number("predicted_peak_allocated_bytes", 0, kMaxBytes)};
  }
  fields.finish();
  return record;
}

CollectiveRecord parse_collective(const nlohmann::json& json, const std::string& where, size_t index, size_t num_jobs) {
  JsonFields fields(json, where, item_key("collectives", index));
  CollectiveRecord record;
  record.job = fields.integer("job", 0, static_cast<int64_t>(num_jobs) - 1);
  record.collective = fields.text("collective");
  if (std::find(kCollectives.begin(), kCollectives.end(), record.collective) == kCollectives.end()) {
    fields.fail("collective",
                "= \"" + record.collective + "\" is none of all_reduce, reduce_scatter, all_gather, all_to_all, send");
  }
  record.group = fields.text("group");
  record.group_size = fields.integer("group_size", 2, kMaxCount);
  record.within_node = fields.boolean("within_node");
  record.calls = fields.integer("calls", 1, std::numeric_limits<int64_t>::max());
  record.bytes_per_call = Bytes{fields.number("bytes_per_call", 1, kMaxBytes)};
  record.seconds = parse_timing(fields);
  if (record.seconds.median.value <= 0) fields.fail("seconds.median", "must be above 0: no transfer takes no time");
  fields.finish();
  return record;
}

MachinePeaks parse_peaks(const nlohmann::json& json, const std::string& where) {
  JsonFields fields(json, where, "peaks");
  MachinePeaks peaks;
  peaks.stream_bandwidth = gb_per_s(fields.number("stream_bandwidth_gb_per_s", 0, 1e7));
  JsonFields rates(fields.object("matmul_gflop_per_s"), where, "peaks.matmul_gflop_per_s");
  for (const char* precision : {"fp64", "fp32", "bf16", "fp8"}) {
    if (rates.has(precision)) {
      peaks.matmul_rate[precision] = FlopsPerSecond{rates.number(precision, 1e-3, 1e9) * 1e9};
    }
  }
  rates.finish();
  fields.finish();
  return peaks;
}

nlohmann::json seconds_json(const Timing& timing) {
  return {{"median", timing.median.value}, {"p10", timing.p10.value}, {"p90", timing.p90.value}};
}

}  // namespace

Profile parse_profile(const nlohmann::json& json, const std::string& where) {
  JsonFields fields(json, where, "");
  Profile profile;
  const int64_t version = fields.integer("schema_version", 0, std::numeric_limits<int>::max());
  if (version != kProfileSchemaVersion) {
    fields.fail("schema_version", "= " + std::to_string(version) + " is not " + std::to_string(kProfileSchemaVersion) +
                                      ", the only one this program reads; measure again with mmoe profile");
  }
  profile.machine = parse_machine(fields.object("machine"), where);
  for (const nlohmann::json& job : fields.array("jobs")) {
    if (!job.is_object()) fields.fail(item_key("jobs", profile.jobs.size()), "must be an object: a job file");
    profile.jobs.push_back(job);
  }
  if (profile.jobs.empty()) fields.fail("jobs", "must hold at least one job");
  profile.peaks = parse_peaks(fields.object("peaks"), where);
  for (const nlohmann::json& record : fields.array("operations")) {
    profile.operations.push_back(parse_operation(record, where, profile.operations.size(), profile.jobs.size()));
  }
  for (const nlohmann::json& record : fields.array("steps")) {
    profile.steps.push_back(parse_step(record, where, profile.steps.size(), profile.jobs.size()));
  }
  if (fields.has("collectives")) {
    for (const nlohmann::json& record : fields.array("collectives")) {
      profile.collectives.push_back(parse_collective(record, where, profile.collectives.size(), profile.jobs.size()));
    }
  }
  fields.finish();
  return profile;
}

Profile load_profile(const std::string& path) { return parse_profile(json_from_file(path), path); }

nlohmann::json to_json(const Profile& profile) {
  const ProfileMachine& machine = profile.machine;
  nlohmann::json json = {{"schema_version", profile.schema_version},
                         {"machine",
                          {{"device", machine.device},
                           {"processor", machine.processor},
                           {"cores", machine.cores},
                           {"threads", machine.threads},
                           {"libtorch", machine.libtorch},
                           {"cuda", machine.cuda},
                           {"driver", machine.driver},
                           {"commit", machine.commit}}},
                         {"jobs", profile.jobs},
                         {"operations", nlohmann::json::array()},
                         {"steps", nlohmann::json::array()}};
  nlohmann::json rates = nlohmann::json::object();
  for (const auto& [precision, rate] : profile.peaks.matmul_rate) rates[precision] = rate.value / 1e9;
  json["peaks"] = {{"stream_bandwidth_gb_per_s", profile.peaks.stream_bandwidth.value / 1e9},
                   {"matmul_gflop_per_s", rates}};
  for (const OperationRecord& record : profile.operations) {
    json["operations"].push_back({{"job", record.job},
                                  {"operation", record.operation},
                                  {"phase", record.phase},
                                  {"layer", record.layer},
                                  {"k", record.k},
                                  {"seconds", seconds_json(record.seconds)},
                                  {"repetitions", record.seconds.repetitions},
                                  {"kept_bytes", record.kept.value},
                                  {"transient_bytes", record.transient.value}});
  }
  for (const StepRecord& record : profile.steps) {
    nlohmann::json step = {{"job", record.job},
                           {"k_per_layer", record.k_per_layer},
                           {"seconds", seconds_json(record.seconds)},
                           {"repetitions", record.seconds.repetitions},
                           {"peak_allocated_bytes", record.peak_allocated.value}};
    if (record.predicted_peak_allocated) {
      step["predicted_peak_allocated_bytes"] = record.predicted_peak_allocated->value;
    }
    json["steps"].push_back(step);
  }
  for (const CollectiveRecord& record : profile.collectives) {
    json["collectives"].push_back({{"job", record.job},
                                   {"collective", record.collective},
                                   {"group", record.group},
                                   {"group_size", record.group_size},
                                   {"within_node", record.within_node},
                                   {"calls", record.calls},
                                   {"bytes_per_call", record.bytes_per_call.value},
                                   {"seconds", seconds_json(record.seconds)},
                                   {"repetitions", record.seconds.repetitions}});
  }
  return json;
}

void save_profile(const Profile& profile, const std::string& path) {
  write_file_atomically(path, to_json(profile).dump(1) + "\n");
}

}  // namespace mmoe
