#pragma once
// mmoe simulate --sweep KEY=a,b,c: the same job at several values of one key, or at the product of several keys.

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/cli/flags.h"
#include "sim/cli/table.h"

namespace mmoe {

// One swept key and its values' texts, from "parallelism.pipeline=4,8,16". Throws ConfigError.
struct SweepAxis {
  std::string key;
  std::vector<std::string> values;
};
SweepAxis parse_sweep(const std::string& text);

// The result at one point: the plan's JSON, or why the job is impossible there.
struct SweepPoint {
  Overrides overrides;  // of the swept keys
  nlohmann::json plan;  // null where the job is impossible
  std::string error;
};

// Simulates the product of the axes, the last one fastest.
std::vector<SweepPoint> run_sweep(const Flags& flags, const std::vector<SweepAxis>& axes);

// A row a point. In bytes and seconds for programs (CSV), in GiB for the screen.
Table sweep_table(const std::vector<SweepPoint>& points, bool for_screen);

}  // namespace mmoe
