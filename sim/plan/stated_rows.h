#pragma once
// Which part of the routed rows goes to the experts of one rank of our trainer, as training.moe.load states.

#include <cstdint>

#include "sim/config/job.h"

namespace mmoe {

// Share of its expert group's rows that comes to `rank`: 1 where it holds all experts; of random loads that of the
// busiest rank. Throws ConfigError.
double stated_share(const Job& job, int64_t rank);

// Of `pairs` (token, expert) pairs those that go to a rank with this share: the nearest whole number, all at most.
int64_t stated_rows(int64_t pairs, double share);

}  // namespace mmoe
