#include "sim/plan/stated_rows.h"

#include <algorithm>
#include <cmath>

#include "sim/cluster/expert_load.h"
#include "sim/network/rank_groups.h"

namespace mmoe {

double stated_share(const Job& job, int64_t rank) {
  const RankGroup group = rank_groups(job.parallelism, job.hardware.num_devices).expert;
  if (group.size == 1) return 1;
  return expert_load_factor(job, position_in(group, rank)) / static_cast<double>(group.size);
}

int64_t stated_rows(int64_t pairs, double share) {
  return std::min(pairs, static_cast<int64_t>(std::llround(share * static_cast<double>(pairs))));
}

}  // namespace mmoe
