#pragma once
// How wide 90 % intervals must be for runs that were not fitted.

#include <string>
#include <vector>

#include "sim/config/model_config.h"

namespace mmoe {

// Runs of one model err alike: its sizes name the group that is held out together.
std::string model_group(const ModelConfig& model);

// The logarithm of predicted over measured of one run.
struct GroupedError {
  std::string group;
  double log_error = 0;
};

// How many independent errors say as much: N / (1 + (m - 1) r) with m the mean size of a row's group and r the
// correlation about zero of two errors of one group (Kish 1965, Survey Sampling, section 5.4), at least the number of
// groups.
double effective_count(const std::vector<GroupedError>& errors);

// The spread s for which exp(kNormal95 s) either way is a 90 % interval of a further run. From n = 19 independent
// errors on, the order statistic of their sizes at 0.9 (1 + 1/n), which no law of the errors is assumed for (Vovk,
// Gammerman and Shafer 2005, split conformal prediction); fewer say too little of the tails (there it would be the
// largest error itself): their root mean square times Student's t of n degrees of freedom over the normal law's
// quantile, exact for normal errors about zero. There must be an error.
double predictive_spread(const std::vector<GroupedError>& errors);

}  // namespace mmoe
