#include "sim/cli/calibration_flag.h"

#include <filesystem>

#include "profiles/presets/embedded.h"
#include "profiles/store/json_fields.h"
#include "sim/calibration/links.h"
#include "sim/cluster/trainer_operations.h"
#include "sim/config/json_text.h"
#include "sim/plan/trainable.h"

namespace mmoe {

void add_calibration(CommandLine& command) {
  command.options.add_options()("calibration", po::value<std::string>()->value_name("FILE"),
                                "calibration.json of mmoe calibrate (default: the shipped one for the device)");
}

std::string calibration_path(const Flags& flags) { return flags.has("calibration") ? flags.get("calibration") : ""; }

Calibration calibration_for(const std::string& path, const Job& job) {
  const std::string& device = job.hardware.spec.name;
  if (!path.empty()) {
    Calibration calibration = load_calibration(path);
    if (!calibration.device.empty() && calibration.device != device) {
      throw ConfigError("--calibration " + path + " was fitted to " + calibration.device + ", but hardware.device is " +
                        device + "; give one of that device, or leave the flag out");
    }
    return calibration;
  }
  const std::string shipped = "calibrations/" + device + ".json";
  if (const auto text = embedded_file(shipped)) return parse_calibration(parse_json(*text, shipped), shipped);
  return default_calibration(job.hardware.spec);
}

Calibration calibration_for(const Flags& flags, const Job& job) {
  return calibration_for(calibration_path(flags), job);
}

Framework framework_for(const std::string& path, const Job& job) {
  // A framework goes by its name too.
  const bool calibrates = std::filesystem::is_regular_file(path) && json_from_file(path).contains("schema_version");
  const bool given = !path.empty() && !calibrates;
  Framework framework = load_framework(given ? path : job.training.framework, job.hardware.spec,
                                       given ? "--calibration" : job.where + ": training.framework");
  const bool ours = framework.name == TrainingConfig().framework && !why_model_is_not_trained(job);
  if (!ours && !calibrates) return framework;
  const Calibration calibration = calibration_for(calibrates ? path : "", job);
  if (ours && (job.hardware.spec.is_cpu || has_fitted_operations(calibration, job.training.precision))) {
    framework.operations = rank_parameters(calibration, job.hardware, job.training.precision);
    framework.fitted_to["time"] = calibrates                             ? path
                                  : calibration.covariance_names.empty() ? "typical values, not measured"
                                                                         : calibration.source;
  }
  if (!calibrates) return framework;
  framework.network.measured = measured_links(calibration);
  if (!framework.network.measured.empty()) {
    framework.fitted_to["network"] = path;
  } else if (!framework.operations) {
    throw ConfigError(
        "--calibration " + path + " has no link that was fitted, which is all that " + job.where + " on " +
        std::to_string(job.hardware.num_devices) +
        " devices takes from it; calibrate with RUN/profile_collectives.json of a run on several devices");
  }
  return framework;
}

Framework framework_for(const Flags& flags, const Job& job) { return framework_for(calibration_path(flags), job); }

}  // namespace mmoe
