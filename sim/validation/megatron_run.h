#pragma once
// What Megatron-LM's own flags say about a run, beyond the columns of a table.

#include <nlohmann/json.hpp>
#include <string>

#include "sim/validation/measured_run.h"

namespace mmoe {

// The job's sections while they are put together.
struct MegatronRun {
  const CsvRow& row;
  const std::string& framework;
  nlohmann::json &model, &parallelism, &training;
  MeasuredRun& run;
  bool tied_embeddings = true;
};

// Fills in architecture, attention, recomputation and options from the row's flags. Returns why the run cannot be
// modelled, or nothing. Defaults are Megatron-LM's: GELU, biases, layer norms, learned positions, dropout 0.1.
std::string read_megatron_flags(MegatronRun& run);

}  // namespace mmoe
