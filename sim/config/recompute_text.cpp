#include "sim/config/recompute_text.h"

namespace mmoe {

std::string recompute_text(const Recompute& recompute) {
  if (recompute.full) return "full";
  std::string text;
  for (const std::string& module : recompute.modules) text += (text.empty() ? "" : "+") + module;
  return text.empty() ? "none" : text;
}

}  // namespace mmoe
