#pragma once
// Devices and clusters by name (profiles/hardware, profiles/presets/clusters) or from a file of the user's.

#include <string>
#include <vector>

#include "sim/config/hardware_config.h"

namespace mmoe {

// The device of that name, or the file if `device` is a path (it holds a slash or ends in .json). "cpu" is the machine
// that the program runs on. `where` names the key for messages. Throws ConfigError.
DeviceSpec load_device(const std::string& device, const std::string& where);

ClusterSpec load_cluster(const std::string& cluster, const std::string& where);

// Whether a device or cluster is given as a file rather than by name.
bool names_file(const std::string& text);

// Every device name that load_device knows, sorted.
std::vector<std::string> device_names();

}  // namespace mmoe
