#include "sim/calibration/links.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "sim/calibration/parameters.h"
#include "sim/config/enum_names.h"
#include "sim/framework/framework.h"
#include "sim/network/collectives.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// A job on CPUs in one node (its fabric has one level, "node"), or on H100s in two (levels "node" and "network").
Job cpu_job() {
  return parse_job(
      R"({"model": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256, "num_experts": 8,
      "expert_hidden_size": 32}, "hardware": {"device": "cpu", "num_devices": 4}, "parallelism": {"expert": 2},
      "training": {"seq_len": 64, "micro_batch_size": 1, "global_batch_size": 8, "precision": "fp32"},
      "elastic": {"k_min": 1, "k_max": 4}})"_json,
      "job.json", "");
}

Job h100_job() {
  return parse_job(
      R"({"model": {"hidden_size": 64, "num_layers": 2, "num_heads": 8, "vocab_size": 256, "num_experts": 8,
      "expert_hidden_size": 32}, "hardware": {"device": "h100-sxm-80gb", "num_devices": 16},
      "parallelism": {"tensor": 8, "sequence": true},
      "training": {"seq_len": 64, "micro_batch_size": 1, "global_batch_size": 8, "precision": "bf16"},
      "elastic": {"k_min": 1, "k_max": 4}})"_json,
      "job.json", "");
}

struct Measured {
  const char* collective;
  const char* group;
  double bytes;
};

// What `measured` takes on a job whose links are `links`, with log-normal noise of standard deviation `noise`.
ProfiledJobs profile_of(const Job& job, const std::vector<MeasuredLink>& links, const std::vector<Measured>& measured,
                        double noise = 0) {
  NetworkParameters parameters = load_framework(job.training.framework, job.hardware.spec, "test").network;
  parameters.measured = links;
  const Network network = make_network(job.hardware, parameters);
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  ProfiledJobs result;
  result.where = "p.json";
  result.jobs = {job};
  result.profile.machine.device = job.hardware.device;
  result.profile.jobs = {to_json(job)};
  for (const Measured& one : measured) {
    const RankGroup group = *group_named(groups, one.group);
    const GroupPlacement placement = place(group, network.domains);
    const Seconds seconds =
        collective_seconds(network, placement, *value_named<Collective>(one.collective), Bytes{one.bytes}) *
        std::exp(noise * normal(random));
    result.profile.collectives.push_back({.job = 0,
                                          .collective = one.collective,
                                          .group = one.group,
                                          .group_size = group.size,
                                          .within_node = farthest_level(placement) == 0,
                                          .calls = 1,
                                          .bytes_per_call = Bytes{one.bytes},
                                          .seconds = {seconds, seconds, seconds, 7}});
  }
  return result;
}

Calibration defaults(const Job& job) { return default_calibration(job.hardware.spec); }

const char* const kKinds[] = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all"};

std::vector<Measured> every_kind(const char* group, const std::vector<double>& sizes) {
  std::vector<Measured> list;
  for (const double bytes : sizes) {
    for (const char* kind : kKinds) list.push_back({kind, group, bytes});
  }
  return list;
}

double fitted(const Calibration& calibration, const char* name) {
  const CalibrationParameter* parameter = calibration.find(name);
  return parameter == nullptr ? 0 : parameter->value;
}

// Without noise the least squares are 0 at the truth; the solver ends where steps change u by less than 1e-12 and
// derivatives are good to 1e-5 of themselves, which leaves far less than 1e-4.
TEST(Links, RecoversLatencyAndBandwidthExactly) {
  const Job job = cpu_job();
  Calibration calibration = defaults(job);
  const std::vector<MeasuredLink> truth = {{"node", gb_per_s(1.7), Seconds{90e-6}}};
  const LinkFit fit =
      fit_links({profile_of(job, truth, every_kind("data", {64, 4096, 262144, 16777216}))}, true, calibration);
  EXPECT_EQ(fit.not_fitted, std::vector<std::string>{});
  EXPECT_NEAR(fitted(calibration, "link_latency.node") / 90e-6, 1, 1e-4);
  EXPECT_NEAR(fitted(calibration, "link_bandwidth.node") / 1.7e9, 1, 1e-4);
  EXPECT_EQ(fit.fitted_records + fit.held_out_records, 16);
  EXPECT_EQ(fit.held_out_records, 5);  // of 16 by size the third, sixth, ...
  for (const MeasuredPrediction& one : fit.after) EXPECT_NEAR(one.predicted / one.measured, 1, 1e-4);
  for (const MeasuredPrediction& one : fit.before) EXPECT_GT(std::abs(one.predicted / one.measured - 1), 0.1);
}

// n records at either end of the sizes, each with a noise of 0.05 in its logarithm: an end's mean is known to 0.05 /
// sqrt(n), and the parameter that makes up at least 0.9 of those times (latency against launch and bytes below, bytes
// against latency above) to 1 / 0.9 of it. 4 standard errors: a right fit fails one run in 8,000, and the seed is
// fixed.
TEST(Links, NoiseMovesItByItsStandardError) {
  const Job job = cpu_job();
  Calibration calibration = defaults(job);
  std::vector<Measured> measured;
  constexpr int kRecords = 32;
  for (int i = 0; i < kRecords / 4; ++i) {
    for (const Measured& one : every_kind("data", {64, 67108864})) measured.push_back(one);
  }
  const LinkFit fit =
      fit_links({profile_of(job, {{"node", gb_per_s(1.7), Seconds{300e-6}}}, measured, 0.05)}, false, calibration);
  const double tolerance = 4 * 0.05 / std::sqrt(kRecords) / 0.9;
  EXPECT_NEAR(std::log(fitted(calibration, "link_latency.node") / 300e-6), 0, tolerance);
  EXPECT_NEAR(std::log(fitted(calibration, "link_bandwidth.node") / 1.7e9), 0, tolerance);
  for (const char* name : {"link_latency.node", "link_bandwidth.node"}) {
    const CalibrationParameter& p = *calibration.find(name);
    EXPECT_LT(p.standard_error, p.value * tolerance / 2) << name;
    EXPECT_GT(p.standard_error, p.value * tolerance / 8) << name;
    EXPECT_NE(p.note.find("64 records of 2 sizes"), std::string::npos) << p.note;
  }
  EXPECT_EQ(fit.held_out_records, 0);
  // What the parameters leave is the noise.
  EXPECT_NEAR(calibration.collective_spread, 0.05, 4 * 0.05 / std::sqrt(2.0 * 2 * kRecords));
}

TEST(Links, FitsEachLevelToWhatReachesIt) {
  const Job job = h100_job();
  Calibration calibration = defaults(job);
  const std::string far = job.hardware.fabric[1].name;
  const std::vector<MeasuredLink> truth = {{job.hardware.fabric[0].name, gb_per_s(300), Seconds{5e-6}},
                                           {far, gb_per_s(20), Seconds{40e-6}}};
  // The switch adds up what an all-reduce sends in a node, at a bandwidth of its own: the other kinds tell the links'.
  std::vector<Measured> measured;
  for (const char* group : {"tensor", "data"}) {
    for (const double bytes : {64.0, 16384.0, 1048576.0, 67108864.0}) {
      for (const char* kind : {"reduce_scatter", "all_gather"}) measured.push_back({kind, group, bytes});
    }
  }
  const LinkFit fit = fit_links({profile_of(job, truth, measured)}, true, calibration);
  EXPECT_EQ(fit.not_fitted, std::vector<std::string>{});
  const std::vector<MeasuredLink> links = measured_links(calibration);
  ASSERT_EQ(links.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(links[i].level, truth[i].level);
    EXPECT_NEAR(links[i].latency->value / truth[i].latency->value, 1, 1e-4);
    EXPECT_NEAR(links[i].bandwidth->value / truth[i].bandwidth->value, 1, 1e-4);
  }
  ASSERT_EQ(calibration.covariance_names.size(), 4u);
  ASSERT_EQ(calibration.covariance.size(), 16u);
  EXPECT_EQ(calibration.covariance[1 * 4 + 2], 0);  // levels are fitted one after the other
  EXPECT_NE(calibration.covariance[1 * 4 + 0], 0);
  EXPECT_EQ(to_json(parse_calibration(to_json(calibration), "c.json")), to_json(calibration));
}

// As software has it: an all-to-all waits three times as long as the others, a reduce-scatter copies more.
TEST(Links, KindsThatDifferAreToldApart) {
  const Job job = cpu_job();
  const std::vector<MeasuredLink> truth = {{"node", gb_per_s(1.7), Seconds{90e-6}},
                                           {"node", gb_per_s(2.1), Seconds{270e-6}, Collective::kAllToAll},
                                           {"node", gb_per_s(0.8), Seconds{90e-6}, Collective::kReduceScatter}};
  std::vector<Measured> measured = every_kind("data", {64, 4096, 32768, 262144, 2097152, 16777216});
  measured.push_back({"send", "data", 33554432});  // too few of this kind
  Calibration calibration = defaults(job);
  const LinkFit fit = fit_links({profile_of(job, truth, measured)}, true, calibration);
  for (const auto& [name, value] : {std::pair{"link_latency.node.all_to_all", 270e-6},
                                    {"link_bandwidth.node.all_to_all", 2.1e9},
                                    {"link_latency.node.reduce_scatter", 90e-6},
                                    {"link_bandwidth.node.reduce_scatter", 0.8e9},
                                    {"link_latency.node.all_gather", 90e-6},
                                    {"link_bandwidth.node.all_gather", 1.7e9}}) {
    EXPECT_NEAR(fitted(calibration, name) / value, 1, 1e-4) << name;
  }
  EXPECT_EQ(calibration.find("link_latency.node.send"), nullptr);
  EXPECT_NE(calibration.find("link_latency.node"), nullptr);
  // Records kept back are predicted by their kind's own numbers.
  ASSERT_FALSE(fit.after.empty());
  for (const MeasuredPrediction& one : fit.after) EXPECT_NEAR(one.predicted / one.measured, 1, 1e-4);
  // They go through the file to the network of a job.
  const Calibration read = parse_calibration(to_json(calibration), "c.json");
  NetworkParameters parameters;
  parameters.measured = measured_links(read);
  const Network network = make_network(job.hardware, parameters);
  EXPECT_NEAR(network.links_of(Collective::kAllToAll)[0].latency.value / 270e-6, 1, 1e-4);
  EXPECT_NEAR(network.links_of(Collective::kReduceScatter)[0].bandwidth.value / 0.8e9, 1, 1e-4);
  EXPECT_EQ(network.links_of(Collective::kSend)[0].latency, network.links[0].latency);
}

// Context groups lie as strided as their job has them: of 4 x 4 ranks a context group has two in each node of 8, and
// with its tensor ranks it fills both nodes.
TEST(Links, ContextGroupsTellOfTheLevelsThatTheyReach) {
  nlohmann::json json = to_json(h100_job());
  json["model"]["num_heads"] = json["model"]["num_kv_heads"] = 16;
  json["parallelism"] = {{"tensor", 4}, {"sequence", true}, {"context", 4}, {"context_kind", "alltoall"}};
  json["training"]["global_batch_size"] = 4;
  const Job job = parse_job(json, "job.json", "");
  Calibration calibration = defaults(job);
  const std::vector<MeasuredLink> truth = {{job.hardware.fabric[0].name, gb_per_s(300), Seconds{5e-6}},
                                           {job.hardware.fabric[1].name, gb_per_s(20), Seconds{40e-6}}};
  std::vector<Measured> measured;
  for (const double bytes : {64.0, 16384.0, 1048576.0, 67108864.0}) {
    for (const char* kind : {"reduce_scatter", "all_gather"}) measured.push_back({kind, "tensor", bytes});
    measured.push_back({"all_to_all", "context", bytes});
    measured.push_back({"all_gather", "tensor_context", bytes});
  }
  const ProfiledJobs profile = profile_of(job, truth, measured);
  for (const CollectiveRecord& record : profile.profile.collectives) {
    EXPECT_EQ(record.within_node, record.group == "tensor") << record.group;
    EXPECT_EQ(record.group_size, record.group == "tensor_context" ? 16 : 4);
  }
  const LinkFit fit = fit_links({profile}, false, calibration);
  EXPECT_EQ(fit.not_fitted, std::vector<std::string>{});
  const std::vector<MeasuredLink> links = measured_links(calibration);
  EXPECT_GE(links.size(), 2u);
  for (const MeasuredLink& link : links) {  // of a level, or of one of its kinds
    const MeasuredLink& known = truth[link.level == truth[0].level ? 0 : 1];
    EXPECT_NEAR(link.latency->value / known.latency->value, 1, 1e-4) << link.level;
    EXPECT_NEAR(link.bandwidth->value / known.bandwidth->value, 1, 1e-4) << link.level;
  }
}

struct OneSize {
  const char* name;
  double bytes;
  const char* is_fitted;
  const char* is_not;
  const char* line;
};

class LinksOfOneSize : public testing::TestWithParam<OneSize> {};

TEST_P(LinksOfOneSize, TellOneOfTheTwo) {
  const Job job = cpu_job();
  Calibration calibration = defaults(job);
  const LinkFit fit = fit_links(
      {profile_of(job, {{"node", gb_per_s(1.7), Seconds{90e-6}}}, {{"all_gather", "data", GetParam().bytes}})}, true,
      calibration);
  ASSERT_EQ(fit.not_fitted.size(), 1u);
  EXPECT_EQ(fit.not_fitted[0], std::string("link level node: 1 record of 1 size, ") + GetParam().line +
                                   "; measure a job with transfers of other sizes too");
  EXPECT_NE(calibration.find(GetParam().is_fitted), nullptr);
  EXPECT_EQ(calibration.find(GetParam().is_not), nullptr);
  // The one is what, with the other as it was, gives the measured time.
  EXPECT_NEAR(fit.fitted.at(0).predicted / fit.fitted.at(0).measured, 1, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    , LinksOfOneSize,
    testing::Values(OneSize{"small", 64, "link_latency.node", "link_bandwidth.node",
                            "64 B cannot tell latency from bandwidth; only the latency was fitted"},
                    OneSize{"large", 67108864, "link_bandwidth.node", "link_latency.node",
                            "64.00 MiB cannot tell latency from bandwidth; only the bandwidth was fitted"}),
    [](const auto& row) { return std::string(row.param.name); });

// Many small sizes are as blind to bandwidth as one: it is the share of the time that counts.
TEST(Links, SmallSizesAloneTellNoBandwidth) {
  const Job job = cpu_job();
  Calibration calibration = defaults(job);
  const LinkFit fit =
      fit_links({profile_of(job, {{"node", gb_per_s(1.7), Seconds{90e-6}}}, every_kind("data", {64, 128, 256}), 0.05)},
                true, calibration);
  ASSERT_EQ(fit.not_fitted.size(), 1u);
  EXPECT_NE(fit.not_fitted[0].find("only the latency was fitted"), std::string::npos) << fit.not_fitted[0];
}

std::string error_of(const std::function<void(CollectiveRecord&)>& change) {
  const Job job = cpu_job();
  ProfiledJobs profile = profile_of(job, {}, {{"all_reduce", "data", 64}, {"all_to_all", "expert", 64}});
  change(profile.profile.collectives[1]);
  Calibration calibration = defaults(job);
  try {
    fit_links({profile}, true, calibration);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Links, RecordsThatContradictTheirJobAreRefusedInOneLine) {
  EXPECT_EQ(error_of([](CollectiveRecord&) {}), "");
  EXPECT_EQ(error_of([](CollectiveRecord& r) { r.group = "experts"; }),
            "p.json: collectives[1].group = \"experts\" is no group of ranks; measure again with mmoe train");
  EXPECT_EQ(
      error_of([](CollectiveRecord& r) { r.group_size = 4; }),
      "p.json: collectives[1].group_size = 4 but the expert groups of its job have 2 ranks; measure again with mmoe "
      "train");
  EXPECT_EQ(
      error_of([](CollectiveRecord& r) { r.within_node = false; }),
      "p.json: collectives[1].within_node = false but by its job the expert groups stay within a node; give "
      "hardware.devices_per_node as the ranks were started, and a cluster with a level beyond the node, and measure "
      "again");
}

}  // namespace
}  // namespace mmoe
