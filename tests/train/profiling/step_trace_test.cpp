#include "train/profiling/step_trace.h"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/train/data/temporary_folder.h"
#include "tests/train/trainer_testing.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

struct Range {
  double start = 0, end = 0;
  bool holds(const Range& other) const { return start <= other.start && other.end <= end; }
};

// Our own ranges of a trace, by name.
std::multimap<std::string, Range> ranges_of(const std::string& path) {
  std::ifstream file(path);
  std::multimap<std::string, Range> ranges;
  const nlohmann::json trace = nlohmann::json::parse(file);
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.value("cat", "") != "user_annotation" || event.at("ph") != "X") continue;
    const auto start = event.at("ts").get<double>();
    ranges.emplace(event.at("name"), Range{start, start + event.at("dur").get<double>()});
  }
  return ranges;
}

Range only(const std::multimap<std::string, Range>& ranges, const std::string& name) {
  EXPECT_EQ(ranges.count(name), 1U) << name;
  const auto found = ranges.find(name);
  return found == ranges.end() ? Range() : found->second;
}

TEST(StepTrace, NamesLayersPassesAndKOfARealStep) {
  const TemporaryFolder folder;
  const Job job = small_job(R"({"training": {"precision": "fp32"}})");
  const at::Tensor tokens = random_tokens({4, 16}, 96, 1);
  Trainer traced(job, c10::kCPU), plain(job, c10::kCPU);
  StepTrace trace(c10::kCPU);
  const StepResult result = traced.run_step(7, 9, tokens, tokens, {{2, 5}, {3, 1}});
  trace.save(folder.file("trace.json"));
  EXPECT_EQ(folder.names(), std::set<std::string>{"trace.json"});
  EXPECT_EQ(result.loss, plain.run_step(7, 9, tokens, tokens, {{2, 5}, {3, 1}}).loss);

  const auto ranges = ranges_of(folder.file("trace.json"));
  const Range step = only(ranges, "step 7");
  const int k[2][2] = {{2, 5}, {3, 1}};
  for (int j = 0; j < 2; ++j) {
    const Range forward = only(ranges, "forward, micro-batch " + std::to_string(j));
    const Range backward = only(ranges, "backward, micro-batch " + std::to_string(j));
    EXPECT_TRUE(step.holds(forward) && step.holds(backward));
    EXPECT_LE(forward.end, backward.start);
    for (int l = 0; l < 2; ++l) {
      const std::string name = "layer " + std::to_string(l), suffix = " k=" + std::to_string(k[j][l]);
      const Range layer = only(ranges, name + " forward" + suffix);
      EXPECT_TRUE(forward.holds(layer));
      EXPECT_TRUE(layer.holds(only(ranges, name + " experts forward" + suffix)));
      EXPECT_TRUE(backward.holds(only(ranges, name + " experts backward" + suffix)));
      EXPECT_TRUE(backward.holds(only(ranges, name + " router backward" + suffix)));
    }
  }
  EXPECT_TRUE(step.holds(only(ranges, "gradient_norm update")));
  EXPECT_GE(ranges.count("optimizer update"), 1U);
  EXPECT_GE(only(ranges, "gradient_norm update").start, only(ranges, "backward, micro-batch 1").end);
}

TEST(StepTrace, OneThatIsNotSavedLeavesNothingAndTheNextOneWorks) {
  const TemporaryFolder folder;
  const Job job = small_job();
  const at::Tensor tokens = random_tokens({4, 16}, 96, 1);
  Trainer trainer(job, c10::kCPU);
  {
    const StepTrace dropped(c10::kCPU);
    trainer.run_step(1, 9, tokens, tokens, {{2, 5}, {3, 1}});
  }
  StepTrace trace(c10::kCPU);
  trainer.run_step(2, 9, tokens, tokens, {{2, 5}, {3, 1}});
  trace.save(folder.file("trace.json"));
  const auto ranges = ranges_of(folder.file("trace.json"));
  EXPECT_EQ(ranges.count("step 1"), 0U);
  EXPECT_EQ(ranges.count("step 2"), 1U);
}

TEST(StepTrace, AFileThatCannotBeWrittenIsAnError) {
  StepTrace trace(c10::kCPU);
  EXPECT_THROW(trace.save("/nowhere/trace.json"), std::system_error);
}

}  // namespace
}  // namespace mmoe
