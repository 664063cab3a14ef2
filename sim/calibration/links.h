#pragma once
// Latency and bandwidth of each fabric level's links, fitted to measured collectives (the alpha-beta model of
// sim/network/collectives.h).

#include <string>
#include <vector>

#include "sim/calibration/fit.h"
#include "sim/network/network.h"

namespace mmoe {

// The links that a calibration holds, for NetworkParameters::measured.
std::vector<MeasuredLink> measured_links(const Calibration& calibration);

struct LinkFit {
  std::vector<MeasuredPrediction> before, after;  // of records kept back: nominal links, fitted ones
  std::vector<MeasuredPrediction> fitted;
  std::vector<std::string> held_out;    // in words
  std::vector<std::string> not_fitted;  // a line for each level whose records cannot tell latency from bandwidth
  int64_t fitted_records = 0, held_out_records = 0;
};

// Fits each level, from the node outwards, to the collectives that reach it and no farther; those of inner levels are
// fixed by then. Latency and bandwidth of a level are fitted together where the records tell them apart: where each is
// known to a factor of 2 (one standard error). Else only the one that moves the predictions more is fitted, or none.
// What is fitted goes into `calibration`, with its covariance. Of a level with more than 4 records every third by size
// is kept back, never the smallest or the largest. Software treats each kind of collective in its own way, so then
// every kind of which a level has at least 4 fitted records gets a latency and a bandwidth of its own, again where they
// tell both; other kinds share the level's. Throws ConfigError naming file and key when a record does not fit its job.
LinkFit fit_links(const std::vector<ProfiledJobs>& profiles, bool hold_out, Calibration& calibration);

}  // namespace mmoe
