#pragma once
// What a job needs of the machine and of the token files.

#include <c10/core/Device.h>

#include <string>

#include "sim/config/job.h"
#include "train/data/dataset.h"

namespace mmoe {

// The job's device: the CPU, or the CUDA device of this number. Throws ConfigError where it is not there, or where the
// model or its training is nothing that this trainer runs.
c10::Device training_device(const Job& job, int64_t local_rank = 0);

// Throws ConfigError where the model or its training is nothing that this trainer runs.
void check_trained_model(const Job& job);

// Throws ConfigError for layouts that can be simulated but not trained.
void check_parallelism(const Job& job);

// Throws ConfigError where the token files' vocabulary is larger than the model's.
void check_vocabulary(const Job& job, const Dataset& data, const std::string& prefix);

}  // namespace mmoe
