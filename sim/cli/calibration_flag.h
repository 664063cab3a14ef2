#pragma once
// The flag --calibration of the commands that predict.

#include "sim/calibration/calibration.h"
#include "sim/cli/flags.h"
#include "sim/framework/framework.h"

namespace mmoe {

// Adds `--calibration FILE`.
void add_calibration(CommandLine& command);

// The file that --calibration names; empty without it.
std::string calibration_path(const Flags& flags);

// The calibration that --calibration names, else the shipped one for the job's device, else uncalibrated values. Throws
// ConfigError when the file was fitted to another device.
// `path`: the file, or empty.
Calibration calibration_for(const std::string& path, const Job& job);
Calibration calibration_for(const Flags& flags, const Job& job);

// Of jobs on several devices: the framework file that --calibration names, else that of training.framework. With the
// links of the calibration.json that --calibration names; of our trainer with its operations, by that file or by the
// shipped calibration of the device, where they were fitted, and on CPUs always. Throws ConfigError, also where a
// calibration.json has nothing for the job.
// `path`: the file, or empty.
Framework framework_for(const std::string& path, const Job& job);
Framework framework_for(const Flags& flags, const Job& job);

}  // namespace mmoe
