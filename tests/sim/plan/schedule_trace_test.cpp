#include "sim/plan/schedule_trace.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

// Two ranks, each a forward and a backward pass of every micro-batch.
TEST(ScheduleTrace, HoldsEveryPass) {
  const Job job = example_cluster_job();
  const nlohmann::json trace = schedule_trace(job, framework_of(job));
  int64_t passes = 0;
  for (const auto& event : trace["traceEvents"])
    passes += event.contains("args") && event["args"].contains("micro_batch");
  EXPECT_GE(passes, 2 * 2 * job.num_micro_batches());
}

}  // namespace
}  // namespace mmoe
