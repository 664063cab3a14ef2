#include "sim/plan/step_draws.h"

#include "sim/plan/rank_memory_law.h"

namespace mmoe {

bool k_varies(const Job& job) {
  return job.model.num_moe_layers() > 0 && job.elastic.sampling != Sampling::kTopP &&
         job.elastic.k_min < job.elastic.k_max;
}

StepDraws::StepDraws(const Job& job) : job_(job), sampler_(job.elastic, static_cast<int>(job.model.num_moe_layers())) {
  if (has_windows(job)) window_.emplace(job.elastic, static_cast<int>(job.model.num_moe_layers()), window_widths(job));
}

std::vector<std::vector<int>> StepDraws::draw(int64_t step, int64_t first_micro_batch) const {
  const int64_t micro_batches = job_.num_micro_batches();
  if (window_) return window_->draw_step(job_.training.seed, step, first_micro_batch, micro_batches);
  std::vector<std::vector<int>> k;
  for (int64_t j = 0; j < micro_batches; ++j)
    k.push_back(sampler_.draw(job_.training.seed, step, first_micro_batch + j));
  return k;
}

}  // namespace mmoe
