#include "train/loop/metrics_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

StepResult result(int64_t step) {
  StepResult r;
  r.step = step;
  r.loss = 1.0 / static_cast<double>(step);
  r.k_per_layer = {{1, 6}, {2.5, 3}};
  r.seconds = 0.5;
  r.peak_allocated_bytes = 1000;
  r.peak_allocated_bytes_by_rank = {1000, 900};
  r.learning_rate = 1e-3;
  r.grad_norm = 0.25;
  return r;
}

void write(const TemporaryFolder& folder, int64_t last_step, int64_t first, int64_t end) {
  MetricsLog log(folder.file(""), last_step);
  for (int64_t step = first; step < end; ++step) log.write(result(step), 64);
}

std::vector<int64_t> steps(const TemporaryFolder& folder) {
  std::vector<int64_t> found;
  std::ifstream file(folder.file("metrics.jsonl"));
  for (std::string line; std::getline(file, line);) found.push_back(nlohmann::json::parse(line).at("step"));
  return found;
}

TEST(MetricsLog, WritesEveryKeyOfTheContract) {
  const TemporaryFolder folder;
  write(folder, 0, 3, 4);
  const nlohmann::json line = nlohmann::json::parse(folder.read("metrics.jsonl"));
  EXPECT_EQ(line.at("step"), 3);
  EXPECT_EQ(line.at("tokens"), 192);
  EXPECT_EQ(line.at("loss").get<double>(), 1.0 / 3);  // every bit of it
  EXPECT_EQ(line.at("k_per_layer").dump(), "[[1,6],[2.5,3]]");
  EXPECT_EQ(line.at("seconds"), 0.5);
  EXPECT_EQ(line.at("tokens_per_second"), 128);
  EXPECT_EQ(line.at("peak_allocated_bytes"), 1000);
  EXPECT_EQ(line.at("peak_allocated_bytes_by_rank"), nlohmann::json({1000, 900}));
  for (const char* key : {"learning_rate", "grad_norm", "load_balance_loss", "z_loss"}) EXPECT_TRUE(line.contains(key));
}

TEST(MetricsLog, DropsTheLinesBehindTheCheckpoint) {
  const TemporaryFolder folder;
  write(folder, 0, 1, 8);
  const std::string before = folder.read("metrics.jsonl");
  write(folder, 5, 6, 7);
  EXPECT_EQ(steps(folder), (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(before.rfind(folder.read("metrics.jsonl"), 0), 0U) << "lines that are kept keep their bytes";
}

TEST(MetricsLog, DropsALineThatWasCutShort) {
  const TemporaryFolder folder;
  write(folder, 0, 1, 4);
  const std::string whole = folder.read("metrics.jsonl");
  folder.write("metrics.jsonl", std::string_view(whole).substr(0, whole.size() - 20));
  write(folder, 3, 4, 5);
  EXPECT_EQ(steps(folder), (std::vector<int64_t>{1, 2, 4}));
}

TEST(MetricsLog, ANewRunBeginsEmpty) {
  const TemporaryFolder folder;
  write(folder, 0, 1, 4);
  write(folder, 0, 1, 3);
  EXPECT_EQ(steps(folder), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(folder.names(), std::set<std::string>{"metrics.jsonl"});
}

}  // namespace
}  // namespace mmoe
