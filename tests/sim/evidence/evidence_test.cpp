#include "sim/evidence/evidence.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(Evidence, NearestRunsComeFirstAndAreLikeTheJob) {
  nlohmann::json json = example_cluster_json();
  json["model"] = "llama3-70b";
  json.erase("elastic");
  json["hardware"]["num_devices"] = 64;
  json["parallelism"] = {{"tensor", 4}, {"pipeline", 4}, {"virtual_pipeline", 5}, {"context", 2}, {"sequence", true}};
  json["training"]["framework"] = "nemo";
  json["training"]["seq_len"] = 8192;
  const Evidence evidence = evidence_for(parse_job(json, "job.json", "/"));
  ASSERT_EQ(evidence.nearest.size(), 3);
  EXPECT_EQ(evidence.nearest[0].framework, "nemo");
  EXPECT_EQ(evidence.nearest[0].device, "h100-sxm-80gb");
  EXPECT_LE(evidence.nearest[0].distance, evidence.nearest[1].distance);
  EXPECT_TRUE(evidence.outside.empty());
  EXPECT_EQ(evidence.widening, 1);
}

TEST(Evidence, WhatNobodyMeasuredWidens) {
  nlohmann::json json = example_cluster_json();
  json["elastic"] = {{"k_min", 1}, {"k_max", 6}};
  const Evidence drawn = evidence_for(parse_job(json, "job.json", "/"));
  EXPECT_GT(drawn.widening, 1);
  json["hardware"] = {{"cluster", "mi300x-8x"}, {"num_devices", 16}};
  const Evidence elsewhere = evidence_for(parse_job(json, "job.json", "/"));
  EXPECT_GT(elsewhere.widening, drawn.widening);
  EXPECT_GT(elsewhere.outside.size(), drawn.outside.size());
}

}  // namespace
}  // namespace mmoe
