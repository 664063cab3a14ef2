#include "sim/network/network.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

HardwareConfig two_levels() {
  HardwareConfig hardware;
  hardware.num_devices = 32;
  hardware.devices_per_node = 8;
  hardware.fabric.resize(2);
  hardware.fabric[0].bandwidth = gb_per_s(400);
  hardware.fabric[0].switch_reduces = true;
  hardware.fabric[1].bandwidth = gb_per_s(50);
  hardware.fabric[1].latency = Seconds{10e-6};
  return hardware;
}

TEST(Network, AppliesTheParametersLevelByLevel) {
  const Network network = make_network(two_levels(), {.node_efficiency = 0.5,
                                                      .network_efficiency = 0.25,
                                                      .switch_reduction_efficiency = 0.75,
                                                      .network_latency_factor = 3,
                                                      .measured = {}});
  EXPECT_EQ(network.domains.num_levels, 2);
  EXPECT_EQ(network.domains.devices[0], 8);
  EXPECT_EQ(network.domains.devices[1], 32);
  EXPECT_EQ(network.links[0].bandwidth, gb_per_s(200));
  EXPECT_EQ(network.links[0].switch_reduction, gb_per_s(300));
  EXPECT_EQ(network.links[1].bandwidth, gb_per_s(12.5));
  EXPECT_NEAR(network.links[1].latency.value, 30e-6, 1e-20);
}

// What is measured holds as it is: no efficiency on top, no filling beside a measured latency.
TEST(Network, MeasuredLinksReplaceWhatFilesSay) {
  HardwareConfig hardware = two_levels();
  hardware.fabric[0].name = "node";
  hardware.fabric[1].name = "network";
  NetworkParameters parameters;
  parameters.measured = {{"network", gb_per_s(7), Seconds{80e-6}}, {"node", gb_per_s(90), std::nullopt}};
  const Network network = make_network(hardware, parameters);
  EXPECT_EQ(network.links[1].bandwidth, gb_per_s(7));
  EXPECT_EQ(network.links[1].latency, Seconds{80e-6});
  EXPECT_EQ(network.links[1].half_size, Bytes{0});
  EXPECT_EQ(network.links[0].bandwidth, gb_per_s(90));
  EXPECT_EQ(network.links[0].latency, hardware.fabric[0].latency);
  EXPECT_EQ(network.links[0].half_size, hardware.fabric[0].half_size);
}

TEST(Network, AKindThatWasMeasuredApartHasItsOwnLinks) {
  HardwareConfig hardware = two_levels();
  hardware.fabric[0].name = "node";
  hardware.fabric[1].name = "network";
  NetworkParameters parameters;
  parameters.measured = {{"network", gb_per_s(9), Seconds{20e-6}, Collective::kAllToAll},
                         {"network", gb_per_s(7), Seconds{80e-6}}};
  const Network network = make_network(hardware, parameters);
  EXPECT_EQ(network.links_of(Collective::kAllReduce)[1].bandwidth, gb_per_s(7));
  const Links& own = network.links_of(Collective::kAllToAll);
  EXPECT_EQ(own[1].bandwidth, gb_per_s(9));
  EXPECT_EQ(own[1].latency, Seconds{20e-6});
  EXPECT_EQ(own[0].bandwidth, network.links[0].bandwidth);  // of a level that it was not measured at
}

TEST(Network, DefaultsLieWithinTheirRanges) {
  const NetworkParameters defaults;
  for (const NetworkParameterDefinition& parameter : kNetworkParameters) {
    EXPECT_GE(defaults.*parameter.value, parameter.low) << parameter.name;
    EXPECT_LE(defaults.*parameter.value, parameter.high) << parameter.name;
  }
}

}  // namespace
}  // namespace mmoe
