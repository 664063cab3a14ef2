#pragma once
// How one training job is split over devices. Degrees are group sizes; 1 means "not split".

#include <cstdint>
#include <string>

#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"

namespace mmoe {

enum class PipelineSchedule { kOneForwardOneBackward, kInterleaved, kZeroBubble };

struct ParallelismConfig {
  int64_t tensor = 1;
  int64_t context = 1;
  int64_t pipeline = 1;
  int64_t virtual_pipeline = 1;
  int64_t expert = 1;
  int64_t expert_tensor = 1;
  int64_t zero_stage = 0;
  bool sequence = false;
  PipelineSchedule schedule = PipelineSchedule::kOneForwardOneBackward;

  int64_t data(const HardwareConfig& hardware) const { return hardware.num_devices / (tensor * pipeline * context); }
  int64_t expert_data(const HardwareConfig& hardware) const {
    return hardware.num_devices / (expert * expert_tensor * pipeline);
  }

  // Throws ConfigError naming the field, its value and the rule it breaks.
  void validate(const ModelConfig& model, const HardwareConfig& hardware, const std::string& where) const;
};

}  // namespace mmoe
