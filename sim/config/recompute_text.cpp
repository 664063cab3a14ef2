#include "sim/config/recompute_text.h"

#include "sim/config/enum_names.h"

namespace mmoe {

std::string recompute_text(const Recompute& recompute, ExpertSaving saving) {
  std::string text = recompute.full ? "full" : "";
  for (const std::string& module : recompute.modules) text += (text.empty() ? "" : "+") + module;
  if (text.empty()) text = "none";
  if (recompute.full && recompute.num_layers > 0) text += " of " + std::to_string(recompute.num_layers);
  return saving == ExpertSaving::kLean ? text : text + ", expert_saving " + name_of(saving);
}

}  // namespace mmoe
