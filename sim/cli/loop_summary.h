#pragma once
// loop.json: what was predicted, what was measured and what was chosen in one run folder.

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "sim/config/job.h"

namespace mmoe {

// Reads the files of a finished loop (plan, metrics, evaluation, allocation, budget) and the token files' description
// beside `data_prefix`, and adds the exact law of the sum of k_l by group. Bytes, seconds, nats per token and bits per
// byte, as each key says.
// Throws ConfigError naming the file and key that is missing.
nlohmann::json summarize_run(const Job& job, const std::string& run, const std::string& data_prefix);

// The same for people: a short table and three sentences.
void print_summary(const nlohmann::json& summary, std::ostream& out);

}  // namespace mmoe
