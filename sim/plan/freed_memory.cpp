#include "sim/plan/freed_memory.h"

namespace mmoe {

std::vector<Overrides> spending_changes(const Job& job) {
  std::vector<Overrides> changes;
  for (const int64_t factor : {2, 4}) {
    changes.push_back({{"training.micro_batch_size", std::to_string(job.training.micro_batch_size * factor)}});
  }
  const Recompute& recompute = job.training.recompute;
  if (recompute.any()) {
    changes.push_back({{"training.recompute", "none"}});
  }
  if (recompute.full) {
    changes.push_back({{"training.recompute", R"(["moe"])"}});
    changes.push_back({{"training.recompute", R"(["moe_activation"])"}});
  }
  return changes;
}

std::string flag_text(const Overrides& change) {
  const auto& [key, value] = change.front();
  return "--" + key + " " + (value.find('"') == std::string::npos ? value : "'" + value + "'");
}

}  // namespace mmoe
