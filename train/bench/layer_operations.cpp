#include "train/bench/layer_operations.h"

#include <algorithm>
#include <iostream>

#include "sim/cli/table.h"
#include "sim/config/enum_names.h"
#include "sim/throughput/operations.h"
#include "train/profiling/profiler.h"

namespace mmoe::bench {
namespace {

struct Work {
  double bytes = 0, flops = 0;
};

Work work_of(const Job& job, const OperationRecord& record) {
  const auto layer = static_cast<int>(record.layer);
  std::vector<OperationCost> costs = layer_operations(job, layer, std::max(1, static_cast<int>(record.k)));
  if (layer < 0) {
    const std::vector<OperationCost> update = update_operations(job);
    costs.insert(costs.end(), update.begin(), update.end());
  }
  Work work;
  for (const OperationCost& cost : costs) {
    if (operation_name(cost.operation) != record.operation || phase_name(cost.phase) != record.phase) continue;
    work.bytes += cost.bytes;
    work.flops += cost.flops;
  }
  return work;
}

const OperationRecord* find_record(const Profile& profile, const OperationRecord& like) {
  const auto found = std::find_if(profile.operations.begin(), profile.operations.end(), [&](const auto& record) {
    return record.job == like.job && record.operation == like.operation && record.phase == like.phase &&
           record.layer == like.layer && record.k == like.k;
  });
  return found == profile.operations.end() ? nullptr : &*found;
}

}  // namespace

LayerProfiles profile_layers(const std::vector<Job>& jobs, int repetitions) {
  ProfileOptions options;
  options.repetitions = repetitions;
  options.progress = [](const std::string& line) { std::cerr << "mmoe-bench: " << line << '\n'; };
  std::vector<Job> aten = jobs;
  for (Job& job : aten) {
    job.training.operations = OperationSet::kAten;
    job.where += ", operations = aten";
  }
  return {profile_operations(jobs, options), profile_operations(aten, options)};
}

void print_layers(const LayerProfiles& profiles, const std::vector<Job>& jobs, std::ostream& out) {
  const MachinePeaks& peaks = profiles.kernels.peaks;
  out << "stream " << significant(peaks.stream_bandwidth.value / 1e9, 3) << " GB/s";
  for (const auto& [precision, rate] : peaks.matmul_rate) {
    out << ", mm in " << precision << ' ' << significant(rate.value / 1e9, 3) << " GFLOP/s";
  }
  out << "\n\n";
  Table table{
      {"operation", "phase", "layer", "k", "precision", "ms", "GB/s", "of stream", "GFLOP/s", "of mm", "ATen's time"},
      {}};
  for (const OperationRecord& record : profiles.kernels.operations) {
    const Job& job = jobs[static_cast<size_t>(record.job)];
    if (record.k > 0 && record.k != job.elastic.k_min && record.k != job.elastic.k_max) continue;
    const Work work = work_of(job, record);
    const std::string precision = name_of(job.training.precision);
    const double seconds = record.seconds.median.value;
    const OperationRecord* aten = find_record(profiles.aten, record);
    table.add({record.operation, record.phase, record.layer < 0 ? "" : std::to_string(record.layer),
               record.k == 0 ? "" : std::to_string(record.k), precision, significant(1e3 * seconds, 3),
               significant(work.bytes / seconds / 1e9, 3), percent(work.bytes / seconds / peaks.stream_bandwidth.value),
               work.flops == 0 ? "" : significant(work.flops / seconds / 1e9, 3),
               work.flops == 0 ? "" : percent(work.flops / seconds / peaks.matmul_rate.at(precision).value),
               aten == nullptr ? "" : significant(aten->seconds.median.value / seconds, 3)});
  }
  print_table(table, out);
}

}  // namespace mmoe::bench
