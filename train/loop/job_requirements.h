#pragma once
// What a job needs of the machine and of the token files.

#include <c10/core/Device.h>

#include <string>

#include "sim/config/job.h"
#include "train/data/dataset.h"

namespace mmoe {

// The job's device: the CPU, or CUDA device 0. Throws ConfigError where the job's device is not there.
c10::Device training_device(const Job& job);

// Throws ConfigError where the token files' vocabulary is larger than the model's.
void check_vocabulary(const Job& job, const Dataset& data, const std::string& prefix);

}  // namespace mmoe
