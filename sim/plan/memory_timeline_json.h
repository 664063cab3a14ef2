#pragma once
// The predicted memory of every rank over one step, for figures.

#include <nlohmann/json.hpp>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// Of our trainer's jobs on CPUs (predicts_trainer_ranks) a rank is the device of its stage with the highest peak.
// `limit_bytes` (usable) and `draws`: "k_max", every MoE layer of every micro-batch at k_max, and where k is drawn
// "drawn", the first step of the job's own seed. Each a list of ranks with `held_bytes` by cause, `samples` [seconds,
// activations, logits, transient], which hold till the next one, and the `peak` with its moment.
nlohmann::json memory_timeline_json(const Job& job, const Framework& framework);

}  // namespace mmoe
