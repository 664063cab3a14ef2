#include "sim/plan/operation_trace.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "sim/plan/step_draws.h"
#include "sim/throughput/step_time.h"
#include "sim/units/errors.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

struct Event {
  std::string name;
  double start, end;
};

std::vector<Event> events_of(const nlohmann::json& trace) {
  std::vector<Event> events;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const auto start = event.at("ts").get<double>();
    events.push_back({event.at("name"), start, start + event.at("dur").get<double>()});
  }
  return events;
}

class OperationTrace : public testing::TestWithParam<const char*> {};

// Operations follow each other without a gap, and add up to the step at the draws of the job's seed.
TEST_P(OperationTrace, AddsUpToTheStep) {
  Job job = example_job();
  job.model.num_dense_layers = 1;
  job.model.dense_hidden_size = 512;
  const std::string recompute = GetParam();
  job.training.recompute.full = recompute == "full";
  if (recompute == "attention" || recompute == "moe") job.training.recompute.modules = {recompute};
  const Calibration calibration = default_calibration(job.hardware.spec);
  const std::vector<std::vector<int>> k = StepDraws(job).draw(5);
  const double step = StepTimeModel(job, calibration).step_seconds(k).value * 1e6;

  std::set<std::string> frames = {"step 5"};
  for (size_t i = 0; i < k.size(); ++i) {
    for (const char* pass : {"forward", "backward"}) frames.insert(pass + (", micro-batch " + std::to_string(i)));
  }
  std::map<std::string, int> layers;
  for (const std::vector<int>& micro_batch : k) {
    ++layers[layer_label(0, 0)];
    for (size_t l = 0; l < micro_batch.size(); ++l) ++layers[layer_label(static_cast<int>(l) + 1, micro_batch[l])];
  }
  double now = 0;
  std::map<std::string, int> found, recomputed;
  const double rounding = 1e-9 * step;  // some hundred sums of doubles
  for (const Event& event : events_of(operation_trace(job, calibration, 5))) {
    if (frames.erase(event.name) > 0) continue;
    if (layers.count(event.name) > 0) {
      ++found[event.name];
      continue;
    }
    if (event.name.find(" recompute") != std::string::npos) ++recomputed[event.name];
    EXPECT_NEAR(event.start, now, rounding) << event.name;
    now = event.end;
  }
  EXPECT_TRUE(frames.empty()) << *frames.begin();
  EXPECT_EQ(found, layers);
  EXPECT_NEAR(now, step, rounding);
  EXPECT_EQ(recomputed.empty(), recompute == "none");
}

INSTANTIATE_TEST_SUITE_P(, OperationTrace, testing::Values("none", "full", "attention", "moe"),
                         [](const auto& test) { return std::string(test.param); });

TEST(OperationTraceOfTopP, IsRefused) {
  Job job = example_job();
  job.elastic.sampling = Sampling::kTopP;
  EXPECT_THROW(operation_trace(job, default_calibration(job.hardware.spec), 1), ConfigError);
}

}  // namespace
}  // namespace mmoe
