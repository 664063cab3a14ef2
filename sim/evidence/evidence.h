#pragma once
// Which measured runs lie nearest to a job, and what of the job lies outside all of them.

#include <string>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// A measured run that the model has been compared with (profiles/measured/evidence.csv).
struct MeasuredNeighbour {
  std::string id, framework, device, quantity;
  double error_fraction = 0;  // predicted over measured less 1
  double distance = 0;        // 0: the same in all that is compared
};

struct Evidence {
  std::vector<MeasuredNeighbour> nearest;  // of different runs, nearest first
  std::vector<std::string> outside;        // in words
  // What intervals of time and memory are widened by, on the scale of logarithms, since the job lies outside.
  double widening = 1;
};

Evidence evidence_for(const Job& job, std::size_t count = 3);

}  // namespace mmoe
