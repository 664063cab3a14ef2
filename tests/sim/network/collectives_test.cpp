#include "sim/network/collectives.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/config/device_file.h"

namespace mmoe {
namespace {

constexpr Bytes kLarge{8.0 * (1 << 30)};

HardwareConfig cluster(const std::string& name, int64_t num_devices) {
  HardwareConfig hardware;
  hardware.cluster_spec = load_cluster(name, "test");
  hardware.num_devices = num_devices;
  hardware.devices_per_node = std::min(num_devices, hardware.cluster_spec.devices_per_node);
  hardware.fabric = hardware.cluster_spec.levels;
  return hardware;
}

Network network_of(const std::string& name, int64_t num_devices, const NetworkParameters& parameters = {}) {
  return make_network(cluster(name, num_devices), parameters);
}

// A fabric of two levels without latencies or losses, so that times are the formulas' bandwidth terms.
Network ideal(int64_t per_node, int64_t num_devices, double node_gb_per_s, double network_gb_per_s) {
  Network network;
  network.domains = {.num_levels = 2, .devices = {per_node, num_devices}};
  network.links[0].bandwidth = gb_per_s(node_gb_per_s);
  network.links[1].bandwidth = gb_per_s(network_gb_per_s);
  return network;
}

TEST(Collectives, OneRankTakesNoTime) {
  const Network network = network_of("dgx-h100", 16);
  const GroupPlacement one = place({1, 1}, network.domains);
  for (const auto collective : {all_reduce, reduce_scatter, all_gather, broadcast, all_to_all, send})
    EXPECT_EQ(collective(network, one, kLarge), Seconds{});
  EXPECT_EQ(hierarchical_all_to_all(network, one, kLarge, kLarge), Seconds{});
}

// Thakur et al. 2005: a ring all-gather of n ranks takes (n - 1) latencies and moves (n - 1)/n of the buffer.
TEST(Collectives, RingWithinANode) {
  Network network = ideal(8, 8, 100, 10);
  network.links[0].latency = Seconds{5e-6};
  network.launch = Seconds{2e-6};
  const GroupPlacement group = place({8, 1}, network.domains);
  EXPECT_NEAR(all_gather(network, group, Bytes{8e9}).value, 2e-6 + 7 * 5e-6 + 7e9 / 100e9, 1e-15);
  EXPECT_NEAR(broadcast(network, group, Bytes{8e9}).value, 2e-6 + 7 * 5e-6 + 8e9 / 100e9, 1e-15);
  network.tree = false;
  EXPECT_NEAR(all_reduce(network, group, Bytes{8e9}).value, 2e-6 + 14 * 5e-6 + 14e9 / 100e9, 1e-15);
}

// Across nodes all members of a node send through their own ports: bus bandwidth is 8 ports, or the node's links if
// those are slower. One member a node has one port.
TEST(Collectives, MembersOfANodeShareItsPorts) {
  const Network slow_network = ideal(8, 64, 500, 10), slow_node = ideal(8, 64, 50, 10);
  const auto bus = [](const Network& network, const RankGroup& group) {
    const Seconds time = all_gather(network, place(group, network.domains), kLarge);
    return bus_bandwidth(Collective::kAllGather, group.size, kLarge, time).value;
  };
  EXPECT_NEAR(bus(slow_network, {64, 1}), 80e9, 1);  // 1 B/s of 8e10: rounding
  EXPECT_NEAR(bus(slow_node, {64, 1}), 50e9, 1);
  EXPECT_NEAR(bus(slow_network, {8, 8}), 10e9, 1);
  EXPECT_NEAR(bus(slow_network, {32, 2}), 40e9, 1);
}

TEST(Collectives, AllReduceTakesTheBestAlgorithm) {
  Network network = ideal(8, 512, 400, 50);
  network.links[1].latency = Seconds{14e-6};
  const GroupPlacement group = place({512, 1}, network.domains);
  // A small message: 6 hops up and 6 down the tree of 64 nodes, against 2 x 63 around the ring.
  const Bytes small{1000};
  EXPECT_NEAR(all_reduce(network, group, small).value, 12 * 14e-6, 1e-7);
  network.tree = false;
  EXPECT_NEAR(all_reduce(network, group, small).value, 126 * 14e-6, 1e-7);
  // Between two nodes the trees carry the buffer once, a ring 2 x 15/16 of it.
  Network two = ideal(8, 16, 4000, 50);
  const GroupPlacement sixteen = place({16, 1}, two.domains);
  EXPECT_NEAR(all_reduce(two, sixteen, kLarge).value, kLarge.value / 400e9, 1e-9);
  two.tree = false;
  EXPECT_NEAR(all_reduce(two, sixteen, kLarge).value, kLarge.value * 15 / 8 / 400e9, 1e-9);
}

// The nccl-tests bus bandwidths that its maintainers give for 8 H100 with NVSwitch: 370 GB/s without, 480 GB/s with
// NVLink SHARP (NVIDIA/nccl-tests issue 212), to which the default efficiencies are set. 5 %: "about" in the source.
TEST(Collectives, DefaultsGiveTheBusBandwidthOfAnH100Node) {
  const Network network = network_of("dgx-h100", 8);
  const GroupPlacement group = place({8, 1}, network.domains);
  const auto bus = [&](Collective collective, Seconds time) {
    return bus_bandwidth(collective, 8, kLarge, time).value / 1e9;
  };
  EXPECT_NEAR(bus(Collective::kAllGather, all_gather(network, group, kLarge)), 370, 0.05 * 370);
  EXPECT_NEAR(bus(Collective::kAllReduce, all_reduce(network, group, kLarge)), 480, 0.05 * 480);
}

TEST(Collectives, AllToAllSplitsBetweenNodeAndNetwork) {
  const Network network = ideal(8, 32, 400, 50);
  const GroupPlacement group = place({32, 1}, network.domains);
  // 24 of 32 parts cross the network, each device through its own port; the 7 within the node hide behind them.
  EXPECT_NEAR(all_to_all(network, group, Bytes{32e9}).value, 24e9 / 50e9, 1e-12);
  EXPECT_NEAR(all_to_all(network, place({8, 1}, network.domains), Bytes{8e9}).value, 7e9 / 400e9, 1e-12);
  // Each token once a node, then spread: both phases count.
  EXPECT_NEAR(hierarchical_all_to_all(network, group, Bytes{6e9}, Bytes{28e9}).value, 6e9 / 50e9 + 28e9 / 400e9, 1e-12);
}

TEST(Collectives, SmallMessagesOfAnAllToAllRunBelowTheBandwidth) {
  Network network = ideal(8, 8, 100, 10);
  network.links[0].half_size = Bytes{1e6};
  const GroupPlacement group = place({8, 1}, network.domains);
  EXPECT_NEAR(all_to_all(network, group, Bytes{8e6}).value, 2 * 7e6 / 100e9, 1e-12);  // messages of the half size
}

// Of eight devices in a mesh a pair has one of seven links, four have three.
TEST(Collectives, AMeshGivesAGroupItsOwnLinks) {
  const NetworkParameters ideal_parameters{
      .node_efficiency = 1, .all_to_all_efficiency = 1, .node_latency_factor = 0, .launch_seconds = 0, .measured = {}};
  const Network network = network_of("mi300x-8x", 8, ideal_parameters);
  const auto rate = [&](int64_t size) {
    return bus_bandwidth(Collective::kAllGather, size, kLarge,
                         all_gather(network, place({size, 1}, network.domains), kLarge))
               .value /
           1e9;
  };
  EXPECT_NEAR(rate(8), 448, 0.1);  // the time to fill the links, 0.6 us of 17 ms, is left in
  EXPECT_NEAR(rate(4), 192, 0.1);
  EXPECT_NEAR(rate(2), 64, 0.1);
  // Two devices of a whole node, though the job has no more: still one link.
  const Network pair = network_of("mi300x-8x", 2, ideal_parameters);
  EXPECT_NEAR(send(pair, place({2, 1}, pair.domains), kLarge).value, kLarge.value / 64e9, 1e-5);
}

TEST(Collectives, SendCrossesTheFarthestLevel) {
  const Network network = ideal(8, 32, 400, 50);
  EXPECT_NEAR(send(network, place({4, 8}, network.domains), Bytes{1e9}).value, 1e9 / 50e9, 1e-12);
  EXPECT_NEAR(send(network, place({4, 2}, network.domains), Bytes{1e9}).value, 1e9 / 400e9, 1e-12);
}

TEST(Collectives, ReduceScatterAndAllGatherMakeARingAllReduce) {
  for (const char* name : {"dgx-a100-80gb", "mi300x-8x"}) {
    Network network = network_of(name, 64, {.launch_seconds = 0, .tree = false, .measured = {}});
    network.measured = {};  // the law itself
    for (Link& link : network.links) link.half_size = {};
    for (const RankGroup group : {RankGroup{8, 1}, RankGroup{64, 1}, RankGroup{8, 8}, RankGroup{16, 2}}) {
      const GroupPlacement placement = place(group, network.domains);
      const double parts = (reduce_scatter(network, placement, kLarge) + all_gather(network, placement, kLarge)).value;
      EXPECT_NEAR(all_reduce(network, placement, kLarge).value, parts, 1e-12 * parts);
    }
  }
}

TEST(Collectives, TimesGrowWithSizeAndGroup) {
  const Network network = network_of("dgx-h100", 1024);
  for (const auto collective : {all_reduce, reduce_scatter, all_gather, broadcast, all_to_all, send}) {
    for (int64_t size = 2; size <= 1024; size *= 2) {
      const GroupPlacement group = place({size, 1}, network.domains);
      double before = 0;
      for (double bytes = 1; bytes < 1e11; bytes *= 10) {
        const double time = collective(network, group, Bytes{bytes}).value;
        EXPECT_GT(time, before);
        before = time;
      }
    }
  }
}

// What a rank hands over is the whole buffer of every kind but the all-gather, of which it is one part.
TEST(Collectives, ByKindTheyTakeARanksOwnInput) {
  const Network network = network_of("dgx-h100", 16);
  const GroupPlacement group = place({16, 1}, network.domains);
  const Bytes input{1e6};
  const auto time = [&](Collective kind) { return collective_seconds(network, group, kind, input); };
  EXPECT_EQ(time(Collective::kAllReduce), all_reduce(network, group, input));
  EXPECT_EQ(time(Collective::kReduceScatter), reduce_scatter(network, group, input));
  EXPECT_EQ(time(Collective::kAllGather), all_gather(network, group, input * 16));
  EXPECT_EQ(time(Collective::kAllToAll), all_to_all(network, group, input));
  EXPECT_EQ(time(Collective::kBroadcast), broadcast(network, group, input));
  EXPECT_EQ(time(Collective::kSend), send(network, group, input));
}

TEST(Collectives, BusBandwidthIsThatOfNcclTests) {
  const Seconds second{1};
  EXPECT_NEAR(bus_bandwidth(Collective::kAllReduce, 4, Bytes{8}, second).value, 12, 1e-12);
  EXPECT_NEAR(bus_bandwidth(Collective::kReduceScatter, 4, Bytes{8}, second).value, 6, 1e-12);
  EXPECT_NEAR(bus_bandwidth(Collective::kAllToAll, 4, Bytes{8}, second).value, 6, 1e-12);
  EXPECT_NEAR(bus_bandwidth(Collective::kBroadcast, 4, Bytes{8}, second).value, 8, 1e-12);
}

// Every measured row comes out again, as the bus bandwidth that nccl-tests printed (a larger message takes no less time
// than a smaller one, which decides where the rows waver).
TEST(Collectives, MeasuredTablesComeOutAgain) {
  struct Case {
    const char* cluster;
    int64_t num_devices;
    std::size_t level;
  };
  for (const Case& one : {Case{"mi300x-8x", 8, 0}, {"dgx-h200", 16, 1}}) {
    const HardwareConfig hardware = cluster(one.cluster, one.num_devices);
    const Network network = make_network(hardware, {});
    const GroupPlacement group = place({one.num_devices, 1}, network.domains);
    ASSERT_EQ(hardware.fabric[one.level].measured.size(), 1u) << one.cluster;
    const MeasuredCollective& rows = hardware.fabric[one.level].measured[0];
    ASSERT_EQ(rows.num_ranks, one.num_devices);
    Seconds longest;
    for (std::size_t i = 0; i < rows.sizes.size(); ++i) {
      const double factor = 2 * (1 - 1 / static_cast<double>(one.num_devices));
      longest = std::max(longest, rows.sizes[i] * factor / rows.bus_bandwidths[i]);
      const Seconds time = all_reduce(network, group, rows.sizes[i]);
      EXPECT_NEAR(time / longest, 1, 1e-12) << one.cluster << ", " << rows.sizes[i].value;
    }
  }
}

// 1 MiB in 30 us and 2 MiB in 40 us over 8 devices of a node: 1.75 of each over a device's link.
TEST(Collectives, MeasuredTimesAreScaledByWhatCrossesALink) {
  constexpr double kMiB = 1 << 20;
  HardwareConfig hardware = cluster("dgx-h100", 16);
  const auto bus = [](double size, double seconds) { return BytesPerSecond{1.75 * size / seconds}; };
  hardware.fabric[0].measured = {
      {Collective::kAllReduce, 8, {Bytes{kMiB}, Bytes{2 * kMiB}}, {bus(kMiB, 30e-6), bus(2 * kMiB, 40e-6)}}};
  const Network network = make_network(hardware, {});
  const GroupPlacement node = place({8, 1}, network.domains), pair = place({2, 1}, network.domains);
  const auto seconds = [&](const GroupPlacement& group, double size) {
    return all_reduce(network, group, Bytes{size}).value;
  };
  EXPECT_NEAR(seconds(node, 1.5 * kMiB), 35e-6, 1e-15);
  EXPECT_NEAR(seconds(node, 1000), 30e-6, 1e-15);
  EXPECT_NEAR(seconds(node, 20 * kMiB), 400e-6, 1e-15);
  EXPECT_NEAR(seconds(pair, 1.75 * kMiB), 30e-6, 1e-15);  // two devices: half of an all-reduce twice is one size
  // Other collectives and groups that reach further go by bandwidth and latency as before.
  const Network plain = network_of("dgx-h100", 16);
  const GroupPlacement both = place({16, 1}, network.domains);
  EXPECT_EQ(all_gather(network, node, kLarge), all_gather(plain, node, kLarge));
  EXPECT_EQ(all_reduce(network, both, kLarge), all_reduce(plain, both, kLarge));
}

// Two devices of a mesh share one of its seven links.
TEST(Collectives, MeasuredMeshesHaveFewerLinksForFewerDevices) {
  const Network network = network_of("mi300x-8x", 8);
  const GroupPlacement node = place({8, 1}, network.domains), pair = place({2, 1}, network.domains);
  const double whole = 2 * 7.0 / 8, two = 1;  // of the size over a device's links
  EXPECT_NEAR(all_reduce(network, pair, kLarge * (whole / two / 7)) / all_reduce(network, node, kLarge), 1, 1e-12);
}

}  // namespace
}  // namespace mmoe
