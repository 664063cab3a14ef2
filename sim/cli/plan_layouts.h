#pragma once
// mmoe plan for jobs on several devices.

#include "sim/cli/flags.h"

namespace mmoe {

// Searches every layout that the job leaves open; the best ones are simulated in full before they are shown.
ExitCode plan_layouts(const Flags& flags, const Job& job);

}  // namespace mmoe
