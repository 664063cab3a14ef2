#include "train/profiling/profiler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randint.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "sim/memory/step_memory.h"
#include "train/loop/job_requirements.h"
#include "train/loop/trainer.h"
#include "train/parallel/process_groups.h"
#include "train/profiling/machine_peaks.h"
#include "train/profiling/operation_scope.h"
#include "train/profiling/probe_jobs.h"

namespace mmoe {
namespace {

using Draw = std::vector<std::vector<int>>;  // [micro-batch][MoE layer]

// One micro-batch a step, so that an operation's record is its time for one micro-batch.
Job single_micro_batch(const Job& job) {
  Job one = job;
  one.training.global_batch_size = one.training.micro_batch_size;
  return one;
}

class JobProfiler {
 public:
  JobProfiler(const Job& job, int64_t index, const ProfileOptions& options, Profile& profile)
      : job_(job), index_(index), options_(options), profile_(profile), device_(training_device(job)) {}

  void measure_operations() {
    const Job one = single_micro_batch(job_);
    Trainer trainer(one, device_);
    for (int k = one.elastic.k_min; k <= std::max(one.elastic.k_min, one.elastic.k_max); ++k) {
      measure_operations_at(trainer, k);
      if (one.model.num_moe_layers() == 0) break;
    }
  }

  void measure_steps(const std::vector<Draw>& draws) {
    Trainer trainer(job_, device_);
    for (const Draw& draw : draws) {
      std::vector<double> seconds;
      int64_t peak = 0;
      for (int run = 0; run < options_.warmup + options_.repetitions; ++run) {
        const StepResult result = run_step(trainer, draw);
        if (run < options_.warmup) continue;
        seconds.push_back(result.seconds);
        peak = std::max(peak, result.peak_allocated_bytes);
      }
      Bytes predicted;
      for (const std::vector<int>& k : draw) predicted = std::max(predicted, step_peak(job_, k).total);
      StepRecord record;
      record.job = index_;
      record.k_per_layer = draw;
      record.seconds = timing_of(std::move(seconds));
      record.peak_allocated = Bytes{static_cast<double>(peak)};
      if (job_.training.operations == OperationSet::kKernels) record.predicted_peak_allocated = predicted;
      profile_.steps.push_back(std::move(record));
    }
  }

 private:
  StepResult run_step(Trainer& trainer, const Draw& draw) {
    const TrainingConfig& training = trainer.job().training;
    const at::Tensor tokens =
        at::randint(job_.model.vocab_size, {training.global_batch_size, training.seq_len}, generator_, at::kInt);
    return trainer.run_step(++step_, /*total_steps=*/1000000, tokens, tokens, draw);
  }

  // Layers and their k are part of a record's name, so all layers run at the same k and each yields a record.
  void measure_operations_at(Trainer& trainer, int k) {
    using Key = std::tuple<std::string, OperationPhase, int, int>;
    std::map<Key, std::vector<double>> seconds;
    std::map<Key, OperationRecord> records;
    const Draw draw(1, std::vector<int>(job_.model.num_moe_layers(), k));
    for (int run = 0; run < options_.warmup; ++run) run_step(trainer, draw);
    for (int run = 0; run < options_.repetitions; ++run) {
      OperationRecorder recorder(device_);
      run_step(trainer, draw);
      std::map<Key, OperationRecord> in_this_run;
      std::map<Key, double> seconds_in_this_run;
      for (const OperationSample& sample : recorder.samples) {
        const bool depends_on_k = sample.operation == "router" || sample.operation == "experts";
        if (!depends_on_k && k != trainer.job().elastic.k_min) continue;
        const Key key{sample.operation, sample.phase, sample.place.layer, depends_on_k ? k : 0};
        OperationRecord& record = in_this_run[key];
        seconds_in_this_run[key] += sample.seconds;
        record.kept += Bytes{static_cast<double>(sample.kept_bytes)};
        record.transient = std::max(record.transient, Bytes{static_cast<double>(sample.transient_bytes)});
      }
      for (const auto& [key, total] : seconds_in_this_run) seconds[key].push_back(total);
      records = std::move(in_this_run);
    }
    for (auto& [key, record] : records) {
      record.job = index_;
      record.operation = std::get<0>(key);
      record.phase = to_string(std::get<1>(key));
      record.layer = std::get<2>(key);
      record.k = std::get<3>(key);
      record.seconds = timing_of(seconds[key]);
      profile_.operations.push_back(record);
    }
  }

  const Job job_;
  int64_t index_;
  const ProfileOptions& options_;
  Profile& profile_;
  c10::Device device_;
  at::Generator generator_ = at::detail::createCPUGenerator(1);
  int64_t step_ = 0;
};

// Uniform draws at the ends and in the middle of k's range, and two draws of the job's own law.
std::vector<Draw> step_draws(const Job& job, bool own_law) {
  const auto layers = static_cast<size_t>(job.model.num_moe_layers());
  const auto micro_batches = static_cast<size_t>(job.num_micro_batches());
  std::vector<int> ks = {job.elastic.k_min, (job.elastic.k_min + job.elastic.k_max) / 2, job.elastic.k_max};
  ks.erase(std::unique(ks.begin(), ks.end()), ks.end());
  if (layers == 0) ks.resize(1);
  std::vector<Draw> draws;
  for (const int k : ks) draws.emplace_back(micro_batches, std::vector<int>(layers, k));
  if (own_law && layers > 0 && job.elastic.sampling != Sampling::kTopP) {
    const KSampler sampler(job.elastic, static_cast<int>(layers));
    for (int64_t step = 1; step <= 2; ++step) {
      Draw draw;
      for (size_t j = 0; j < micro_batches; ++j) {
        draw.push_back(sampler.draw(job.training.seed, step, static_cast<int64_t>(j)));
      }
      draws.push_back(std::move(draw));
    }
  }
  return draws;
}

}  // namespace

Timing timing_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double quantile) {
    return Seconds{seconds[static_cast<size_t>(quantile * static_cast<double>(seconds.size() - 1) + 0.5)]};
  };
  return {at(0.5), at(0.1), at(0.9), static_cast<int64_t>(seconds.size())};
}

Profile profile_job(const Job& whole_job, const ProfileOptions& options) {
  const Job job = on_one_device(whole_job);
  Profile profile;
  const c10::Device device = training_device(job);
  profile.machine = describe_machine(job, device);
  options.progress("measuring the machine's peaks");
  profile.peaks = measure_machine_peaks(job, device);
  std::vector<Job> jobs = {job};
  if (options.probes) {
    for (Job& probe : probe_jobs(job)) jobs.push_back(std::move(probe));
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    options.progress("job " + std::to_string(i + 1) + " of " + std::to_string(jobs.size()) + ": " + jobs[i].where);
    profile.jobs.push_back(to_json(jobs[i]));
    JobProfiler profiler(jobs[i], static_cast<int64_t>(i), options, profile);
    profiler.measure_operations();
    profiler.measure_steps(step_draws(jobs[i], i == 0));
  }
  return profile;
}

Profile profile_operations(const std::vector<Job>& jobs, const ProfileOptions& options) {
  Profile profile;
  const c10::Device device = training_device(jobs.front());
  profile.machine = describe_machine(jobs.front(), device);
  for (size_t i = 0; i < jobs.size(); ++i) {
    options.progress("operations of " + jobs[i].where);
    const MachinePeaks peaks = measure_machine_peaks(jobs[i], device);
    profile.peaks.stream_bandwidth = std::max(profile.peaks.stream_bandwidth, peaks.stream_bandwidth);
    profile.peaks.matmul_rate.insert(peaks.matmul_rate.begin(), peaks.matmul_rate.end());
    profile.jobs.push_back(to_json(jobs[i]));
    JobProfiler(jobs[i], static_cast<int64_t>(i), options, profile).measure_operations();
  }
  return profile;
}

}  // namespace mmoe
