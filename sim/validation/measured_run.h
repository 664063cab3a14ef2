#pragma once
// One row of a table of measured runs as a job, with what was measured.

#include <optional>
#include <string>

#include "sim/config/job.h"
#include "sim/validation/csv_table.h"

namespace mmoe {

// Which FLOPs a source's MFU counts: those of the whole attention matrix (Megatron-LM), of its causal half, or of the
// whole matrix with what is recomputed (Narayanan et al. 2021, arXiv:2104.04473).
enum class FlopsConvention { kWholeAttention, kCausalAttention, kWithRecomputation };

struct MeasuredRun {
  std::string id;
  Job job;
  std::string stratum;           // framework, device, dense or MoE, one node or several
  bool last_rank_only = false;   // memory is the last pipeline rank's, else the worst rank's
  FlopsConvention convention = FlopsConvention::kWholeAttention;
  std::optional<double> step_seconds, mfu, peak_allocated_bytes, peak_reserved_bytes, static_bytes;
  std::optional<bool> fits;
};

struct RunOrReason {
  std::optional<MeasuredRun> run;
  std::string reason;  // why the row cannot be modelled
};

// The columns are those of the published tables (profiles/measured/published). What the row is called has no say in it,
// except for names that tell options (a test's name) or a published architecture whose sizes the columns leave out.
RunOrReason measured_run(const CsvRow& row);

}  // namespace mmoe
