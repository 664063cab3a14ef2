#pragma once
// Where `mmoe train --rank-logs` writes what one rank measured, and `mmoe validate --run` finds it.

#include <cstdint>
#include <cstdio>
#include <string>

namespace mmoe {

// "RUN/ranks/rank_00003.jsonl".
inline std::string rank_log_path(const std::string& run_folder, int64_t rank) {
  char name[32];
  std::snprintf(name, sizeof name, "rank_%05lld.jsonl", static_cast<long long>(rank));
  return run_folder + "/ranks/" + name;
}

}  // namespace mmoe
