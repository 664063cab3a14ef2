#include "sim/schedule/trace.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/sim/schedule/example_pipelines.h"

namespace mmoe {
namespace {

// Passes, blocking transfers and bubbles of a rank cover the step without overlap, in the track of their kind.
TEST(ChromeTrace, CoversEveryRankFromStartToEnd) {
  std::mt19937 random(10);
  for (int i = 0; i < 30; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    const bool blocks = i % 2 == 0;
    const Transfers transfers =
        random_transfers(shape, blocks ? TransferMode::kBlocking : TransferMode::kOverlapped, 0.1, random);
    const Timeline timeline =
        simulate_pipeline(passes, pass_seconds(passes, random_chunks(shape, 0.3, random)), transfers);
    const nlohmann::json trace = chrome_trace_json(passes, timeline, transfers);
    std::map<int64_t, std::map<double, double>> spans;  // [rank]: start -> end, microseconds
    std::map<std::string, size_t> count;
    for (const nlohmann::json& event : trace.at("traceEvents")) {
      if (event.at("ph") != "X") continue;
      const std::string track = event.at("cat");
      ++count[track];
      EXPECT_GT(event.at("dur").get<double>(), 0);
      if (track == "transfer" && !blocks) continue;
      const double start = event.at("ts");
      spans[event.at("pid")][start] = start + event.at("dur").get<double>();
    }
    for (const auto& [rank, covered] : spans) {
      double end = 0;
      const double rounding = 4 * 2.3e-16 * timeline.total.value * 1e6;  // of a product, a difference and a sum
      for (const auto& [from, to] : covered) {
        EXPECT_NEAR(from, end, rounding);
        end = to;
      }
      EXPECT_NEAR(end, timeline.total.value * 1e6, rounding);
    }
    EXPECT_EQ(count["forward"] + count["backward"] + count["weight"], passes.passes.size());
    EXPECT_EQ(count["weight"], shape.splits_backward() ? count["forward"] : 0);
  }
}

TEST(ChromeTrace, NamesRanksAndPasses) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kOneForwardOneBackward, 2, 1, 1});
  const std::vector<Seconds> seconds(4, Seconds{0.5});
  const std::vector<std::string> names{"node 0", "node 1"};
  const nlohmann::json trace = chrome_trace_json(passes, simulate_pipeline(passes, seconds, {}), {}, names);
  const nlohmann::json& events = trace.at("traceEvents");
  EXPECT_EQ(events[0].at("args").at("name"), "node 0");
  EXPECT_EQ(events[6], (nlohmann::json{{"ph", "X"},
                                       {"name", "forward 0"},
                                       {"cat", "forward"},
                                       {"pid", 0},
                                       {"tid", 0},
                                       {"ts", 0.0},
                                       {"dur", 5e5},
                                       {"args", {{"micro_batch", 0}, {"chunk", 0}}}}));
}

}  // namespace
}  // namespace mmoe
