#include "train/profiling/probe_jobs.h"

#include <algorithm>

namespace mmoe {
namespace {

// A probe has two layers of the job's last kind, no budget and a single micro-batch a step.
Job shortened(const Job& job, const char* name) {
  Job probe = job;
  probe.where = job.where + " (probe: " + name + ")";
  probe.model.num_dense_layers = std::min<int64_t>(probe.model.num_dense_layers, 1);
  probe.model.num_layers = std::min<int64_t>(job.model.num_layers, 2 + probe.model.num_dense_layers);
  probe.training.global_batch_size = probe.training.micro_batch_size;
  probe.elastic.budget.reset();
  return probe;
}

}  // namespace

std::vector<Job> probe_jobs(const Job& job) {
  std::vector<Job> probes;
  Job wide = shortened(job, "wide");
  wide.model.hidden_size *= 2;
  wide.model.num_heads *= 2;
  wide.model.num_kv_heads *= 2;
  probes.push_back(wide);

  Job wide_experts = shortened(job, "wide experts");
  wide_experts.model.expert_hidden_size *= 3;
  wide_experts.model.num_experts = std::max<int64_t>(job.elastic.k_max, job.model.num_experts / 2);
  probes.push_back(wide_experts);

  Job many_experts = shortened(job, "many experts");
  many_experts.model.num_experts = std::min<int64_t>(512, job.model.num_experts * 2);
  many_experts.model.vocab_size *= 2;
  probes.push_back(many_experts);

  Job long_sequences = shortened(job, "long sequences");
  long_sequences.training.seq_len *= 2;
  long_sequences.training.micro_batch_size = std::max<int64_t>(1, job.training.micro_batch_size / 4);
  long_sequences.training.global_batch_size = long_sequences.training.micro_batch_size;
  probes.push_back(long_sequences);

  Job narrow = shortened(job, "small batch");
  narrow.training.micro_batch_size = std::max<int64_t>(1, job.training.micro_batch_size / 4);
  narrow.training.global_batch_size = narrow.training.micro_batch_size;
  probes.push_back(narrow);
  return probes;
}

}  // namespace mmoe
