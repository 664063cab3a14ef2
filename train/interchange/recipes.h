#pragma once
// How stock servers take a number of active experts.

#include <string>

namespace mmoe {

// Command lines for the exported folder `folder` at `k`, one a server, for a model of `model_type`; and that a plan of
// k per layer needs the loader k_plan.py.
std::string serving_recipes(const std::string& folder, const std::string& model_type, int k);

}  // namespace mmoe
