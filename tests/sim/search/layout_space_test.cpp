#include "sim/search/layout_space.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(LayoutSpace, WhatIsGivenStays) {
  const Job job = example_cluster_job();
  const LayoutSpace space(job);
  EXPECT_EQ(space.tensors, std::vector<int64_t>{2});
  EXPECT_EQ(space.pipelines, std::vector<int64_t>{2});
  EXPECT_EQ(space.experts, std::vector<int64_t>{4});
  EXPECT_EQ(space.zero_stages, std::vector<int64_t>{1});
  EXPECT_EQ(space.micro_batches, std::vector<int64_t>{1});
  EXPECT_GT(space.recomputes.size(), 2);
}

TEST(LayoutSpace, OpenDegreesAreThoseThatTheModelAllows) {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const LayoutSpace space(job);
  EXPECT_EQ(space.tensors, (std::vector<int64_t>{1, 2, 4, 8}));  // 8 key-value heads, 8 devices a node
  EXPECT_EQ(space.pipelines, (std::vector<int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(space.experts, (std::vector<int64_t>{1, 2, 4, 8, 16}));
  EXPECT_EQ(space.virtual_pipelines(2), (std::vector<int64_t>{1, 2, 4}));
  EXPECT_EQ(space.virtual_pipelines(1), std::vector<int64_t>{1});
}

}  // namespace
}  // namespace mmoe
