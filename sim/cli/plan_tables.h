#pragma once
// The simulator's answer as people read it. It is printed from the JSON, so the screen shows what programs read.

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// "fits with 99.9 %: 61.20 GiB [60.1, 63.0] of 76.00 usable; highest at stage 0, layer 3 backward, mostly activations;
// nearest measured run dgxc_recipes-0003": stage and run for cluster jobs.
std::string verdict_line(const nlohmann::json& plan);

// Verdict, memory by cause, time by cause, the laws of the sum of k and of the peak, the whole run, remedies.
void print_plan(const nlohmann::json& plan, const Job& job, std::ostream& out);

// The single changes under `remedies`, cheapest first, each with its command.
void print_remedies(const nlohmann::json& answer, std::ostream& out);

// Memory by cause in bytes, largest stage: name on screen and value, adding up to the peak.
std::vector<std::pair<std::string, double>> memory_causes(const nlohmann::json& plan);

}  // namespace mmoe
