#include "sim/evidence/evidence.h"

#include <algorithm>
#include <cmath>

#include "profiles/presets/embedded.h"
#include "sim/config/enum_names.h"
#include "sim/units/errors.h"
#include "sim/validation/csv_table.h"

namespace mmoe {
namespace {

// Differences in kind count as much as a factor of e^2 or e^3 in size.
constexpr double kOtherDevice = 2, kOtherFramework = 1, kOtherArchitecture = 3, kOtherPrecision = 1;
// Each thing outside the measured range widens an interval by a quarter: an assumption, not a fit.
constexpr double kWideningEach = 1.25;

double far(double a, double b) { return std::abs(std::log(std::max(a, 1.0) / std::max(b, 1.0))); }

const CsvTable& measured_runs() {
  static const CsvTable table =
      CsvTable::parse(std::string(embedded_file("measured/evidence.csv").value_or("id\n")), "measured/evidence.csv");
  return table;
}

}  // namespace

Evidence evidence_for(const Job& job, std::size_t count) {
  const ModelConfig& model = job.model;
  const ParallelismConfig& p = job.parallelism;
  const bool moe = model.num_moe_layers() > 0;
  const auto size = [](int64_t value) { return static_cast<double>(value); };
  std::vector<MeasuredNeighbour> all;
  bool device_seen = false, moe_seen = false;
  double most_devices = 0, longest = 0;
  for (const CsvRow& row : measured_runs().rows()) {
    const auto number = [&](const char* column) { return row.number(column).value_or(1); };
    const bool same_device = row.text("device") == job.hardware.device, row_moe = number("num_experts") > 1;
    device_seen |= same_device;
    moe_seen |= row_moe && same_device;
    most_devices = std::max(most_devices, number("num_devices"));
    longest = std::max(longest, number("seq_len"));
    const double distance =
        (same_device ? 0 : kOtherDevice) + (row.text("framework") == job.training.framework ? 0 : kOtherFramework) +
        (row_moe == moe ? 0 : kOtherArchitecture) +
        (row.text("precision") == name_of(job.training.precision) ? 0 : kOtherPrecision) +
        far(number("hidden_size"), size(model.hidden_size)) + far(number("num_layers"), size(model.num_layers)) +
        far(number("num_devices"), size(job.hardware.num_devices)) +
        far(number("seq_len"), size(job.training.seq_len)) + far(number("tensor"), size(p.tensor)) +
        far(number("pipeline"), size(p.pipeline)) + far(number("expert"), size(p.expert)) +
        far(number("context"), size(p.context));
    all.push_back({row.text("id"), row.text("framework"), row.text("device"), row.text("quantity"),
                   row.number("error_fraction").value_or(0), distance});
  }
  Evidence evidence;
  const std::size_t shown = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), all.end(),
                    [](const auto& a, const auto& b) { return a.distance < b.distance; });
  evidence.nearest.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown));
  const auto outside = [&](bool is, std::string what) {
    if (!is) return;
    evidence.outside.push_back(std::move(what));
    evidence.widening *= kWideningEach;
  };
  outside(!device_seen, "no run on " + job.hardware.device + " was measured");
  outside(moe && device_seen && !moe_seen, "no MoE run on " + job.hardware.device + " was measured");
  outside(size(job.hardware.num_devices) > most_devices,
          "more devices than any measured run (" + std::to_string(static_cast<int64_t>(most_devices)) + ")");
  outside(size(job.training.seq_len) > longest, "longer sequences than any measured run");
  outside(moe && job.training.moe.load != LoadKind::kBalanced, "measured runs had balanced routing");
  outside(moe && job.elastic.k_min < job.elastic.k_max, "no measured run drew its number of experts");
  outside(job.training.offload != Offload::kNone, "no measured run offloaded");
  if (moe) evidence.outside.emplace_back("runs that ran out of memory were dense ones only");
  return evidence;
}

}  // namespace mmoe
