#pragma once
// allocation.json, and the same for people.

#include <iosfwd>
#include <nlohmann/json.hpp>

#include "sim/throughput/step_time.h"
#include "train/loop/allocation.h"

namespace mmoe {

// `seconds`, where given, adds the predicted seconds of a forward pass of one micro-batch.
nlohmann::ordered_json allocation_json(const Allocation& allocation, const AllocationCost& costs,
                                       const AllocationOptions& options, const StepTimeModel* seconds);

void print_allocation(const nlohmann::ordered_json& report, std::ostream& out);

}  // namespace mmoe
