#pragma once

namespace mmoe {

// The text of k_plan.py, which is exported beside a model.
extern const char* const kKPlanLoader;

}  // namespace mmoe
