#include "sim/config/device_file.h"

#include "profiles/presets/embedded.h"
#include "sim/config/cpu_device.h"
#include "sim/config/model_preset.h"
#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

// The numbers of the section "sources" are texts, one for each number of the file.
std::string read_sources(JsonReader& root) {
  std::string all;
  std::set<std::string> seen;
  if (const nlohmann::json* sources = root.find("sources"); sources != nullptr && sources->is_object()) {
    for (const auto& [key, text] : sources->items()) {
      if (!text.is_string()) root.fail("sources", "must hold texts, one a key");
      if (seen.insert(text.get<std::string>()).second) all += (all.empty() ? "" : "; ") + text.get<std::string>();
    }
  } else if (sources != nullptr) {
    root.fail("sources", "must be an object: key of this file to datasheet");
  }
  return all;
}

double positive(JsonReader& section, const std::string& key, double most) {
  double value = 0;
  section.read(key, value, 0, most);
  if (section.find(key) != nullptr && !(value > 0))
    section.fail(key, "must be above 0; leave it out if it is not known");
  return value;
}

DeviceSpec parse_device(const nlohmann::json& json, const std::string& where) {
  JsonReader root(json, where, "", nullptr);
  DeviceSpec spec;
  root.require("name", "a device file needs a name");
  root.read("name", spec.name);
  root.find("vendor");
  root.find("note");
  spec.source = read_sources(root);
  for (const char* key : {"hbm_capacity_gib", "hbm_bandwidth_gb_per_s", "peak_dense_tflop_per_s"}) {
    root.require(key, "a device file needs name, hbm_capacity_gib, hbm_bandwidth_gb_per_s and peak_dense_tflop_per_s");
  }
  spec.memory = gib(positive(root, "hbm_capacity_gib", 1e6));
  spec.memory_bandwidth = gb_per_s(positive(root, "hbm_bandwidth_gb_per_s", 1e7));
  spec.link_bandwidth = gb_per_s(positive(root, "link_bandwidth_one_way_gb_per_s", 1e7));
  spec.host_link = gb_per_s(positive(root, "host_link_one_way_gb_per_s", 1e7));
  spec.power_watt = positive(root, "power_watt", 1e6);
  root.read("num_multiprocessors", spec.num_multiprocessors, 1, 1 << 20);
  root.read("usual_cluster", spec.usual_cluster);
  JsonReader peaks = root.child("peak_dense_tflop_per_s");
  spec.peak_fp64 = tflop_per_s(positive(peaks, "fp64", 1e9));
  spec.peak_fp32 = tflop_per_s(positive(peaks, "fp32", 1e9));
  spec.peak_tf32 = tflop_per_s(positive(peaks, "tf32", 1e9));
  spec.peak_fp16 = tflop_per_s(positive(peaks, "fp16", 1e9));
  spec.peak_bf16 = tflop_per_s(positive(peaks, "bf16", 1e9));
  spec.peak_fp8 = tflop_per_s(positive(peaks, "fp8", 1e9));
  spec.peak_fp4 = tflop_per_s(positive(peaks, "fp4", 1e9));
  peaks.finish();
  root.finish();
  return spec;
}

// Levels beyond the node that give no latency or half size: a network hop of a ring in NCCL 2.28's tuning model (Simple
// protocol), and an estimate.
constexpr double kNetworkLatencyUs = 14;
constexpr double kNetworkHalfSize = 65536;

// The columns of nccl-tests.
MeasuredCollective parse_measured(const nlohmann::json& json, const std::string& where, const std::string& path) {
  JsonReader section(json, where, path, nullptr);
  MeasuredCollective measured;
  std::vector<double> sizes, rates;
  for (const char* key : {"collective", "num_ranks", "size_bytes", "bus_bandwidth_gb_per_s"})
    section.require(key, "each entry of measured needs collective, num_ranks, size_bytes and bus_bandwidth_gb_per_s");
  section.read_enum("collective", measured.collective);
  section.read("num_ranks", measured.num_ranks, 2, 1 << 24);
  section.read("size_bytes", sizes);
  section.read("bus_bandwidth_gb_per_s", rates);
  section.finish();
  if (sizes.empty() || sizes.size() != rates.size())
    section.fail("size_bytes", "and bus_bandwidth_gb_per_s must be lists of the same length, one number a size");
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (!(sizes[i] > (i > 0 ? sizes[i - 1] : 0))) section.fail("size_bytes", "must rise from above 0");
    if (!(rates[i] > 0)) section.fail("bus_bandwidth_gb_per_s", "must be above 0; leave out sizes that print as 0");
    measured.sizes.emplace_back(sizes[i]);
    measured.bus_bandwidths.push_back(gb_per_s(rates[i]));
  }
  return measured;
}

FabricLevel parse_level(const nlohmann::json& json, const std::string& where, std::size_t index) {
  const std::string path = "levels[" + std::to_string(index) + "]";
  JsonReader section(json, where, path, nullptr);
  FabricLevel level;
  section.require("name", "each level of levels needs name and bandwidth_one_way_gb_per_s");
  section.require("bandwidth_one_way_gb_per_s", "each level of levels needs name and bandwidth_one_way_gb_per_s");
  section.read("name", level.name);
  section.read("devices", level.devices, 1, 1 << 24);
  level.bandwidth = gb_per_s(positive(section, "bandwidth_one_way_gb_per_s", 1e7));
  double latency_us = index == 0 ? level.latency.value * 1e6 : kNetworkLatencyUs;
  double half_size = index == 0 ? level.half_size.value : kNetworkHalfSize;
  section.read("latency_us", latency_us, 0, 1e7);
  section.read("half_size_bytes", half_size, 0, 1e12);
  level.latency = Seconds{latency_us * 1e-6};
  level.half_size = Bytes{half_size};
  section.read("mesh", level.is_mesh);
  if (level.is_mesh && level.devices < 2) section.fail("mesh", "needs the number of devices that the mesh joins");
  section.read("switch_reduces", level.switch_reduces);
  if (const nlohmann::json* measured = section.find("measured"); measured != nullptr) {
    if (!measured->is_array()) section.fail("measured", "must be a list, one entry a collective");
    for (std::size_t i = 0; i < measured->size(); ++i) {
      level.measured.push_back(parse_measured((*measured)[i], where, path + ".measured[" + std::to_string(i) + "]"));
    }
  }
  section.finish();
  return level;
}

ClusterSpec parse_cluster(const nlohmann::json& json, const std::string& where) {
  JsonReader root(json, where, "", nullptr);
  ClusterSpec spec;
  root.find("note");
  read_sources(root);
  root.require("name", "a cluster file needs a name");
  root.read("name", spec.name);
  root.read("device", spec.device);
  if (names_file(spec.device)) spec.device = resolve_path(spec.device, resolve_path("..", where));
  root.read("devices_per_node", spec.devices_per_node, 1, 1 << 20);
  root.read("devices_per_host", spec.devices_per_host, 1, 1 << 20);
  if (spec.devices_per_host == 0) spec.devices_per_host = spec.devices_per_node;
  if (spec.devices_per_host > 0 && spec.devices_per_node % spec.devices_per_host != 0)
    root.fail("devices_per_host", "must divide devices_per_node = " + std::to_string(spec.devices_per_node));
  if (const nlohmann::json* levels = root.find("levels"); levels != nullptr) {
    if (!levels->is_array()) root.fail("levels", "must be a list, from the node outwards");
    if (levels->size() > kMaxFabricLevels) root.fail("levels", "must be at most " + std::to_string(kMaxFabricLevels));
    for (std::size_t i = 0; i < levels->size(); ++i) {
      spec.levels.push_back(parse_level((*levels)[i], where, i));
    }
  }
  spec.host_memory = gib(positive(root, "host_memory_gib_per_device", 1e6));
  spec.host_bandwidth = gb_per_s(positive(root, "host_bandwidth_gb_per_s_per_device", 1e6));
  spec.price_per_device_hour = positive(root, "price_per_device_hour_usd", 1e6);
  spec.hours_between_failures = positive(root, "hours_between_failures_per_device", 1e9);
  spec.power_watt_per_device = positive(root, "power_watt_per_device", 1e6);
  root.finish();
  return spec;
}

}  // namespace

bool names_file(const std::string& text) { return text.find('/') != std::string::npos || text.ends_with(".json"); }

std::vector<std::string> device_names() {
  std::vector<std::string> names = embedded_names("hardware");
  names.insert(names.begin(), "cpu");
  return names;
}

DeviceSpec load_device(const std::string& device, const std::string& where) {
  if (device == "cpu") return this_machine();
  if (names_file(device)) return parse_device(read_json_file(device), device);
  if (const auto text = embedded_file("hardware/" + device + ".json")) {
    return parse_device(parse_json(*text, "device " + device), "device " + device);
  }
  const std::string guess = nearest(device, device_names());
  throw ConfigError(where + " = \"" + device + "\" is unknown; " +
                    (guess.empty() ? "" : "did you mean \"" + guess + "\"? ") + "devices are " + join(device_names()) +
                    ", or give a device file");
}

ClusterSpec load_cluster(const std::string& cluster, const std::string& where) {
  if (names_file(cluster)) return parse_cluster(read_json_file(cluster), cluster);
  const std::string file = "cluster " + cluster;
  return parse_cluster(parse_json(preset_text("clusters", cluster, where), file), file);
}

}  // namespace mmoe
