// Nodes and fabric that a job's hardware section resolves to.

#include "sim/config/hardware_config.h"

#include <gtest/gtest.h>

#include "sim/config/job.h"
#include "sim/units/errors.h"
#include "tests/sim/config/example_job.h"

namespace mmoe {
namespace {

// The hardware of the example job, given as JSON. Data parallel size 1 x num_devices needs a batch that it divides.
HardwareConfig hardware(const nlohmann::json& section) {
  nlohmann::json job = changed(example_job(), "hardware", section);
  job["training"]["global_batch_size"] = 2 * section.value("num_devices", 1);
  return parse_job(job, "job.json", "/").hardware;
}

TEST(HardwareConfig, JobWithoutClusterHasTheUsualFabricOfItsDevice) {
  const HardwareConfig h100 = hardware({{"device", "h100-sxm-80gb"}, {"num_devices", 32}});
  EXPECT_EQ(h100.devices_per_node, 8);
  ASSERT_EQ(h100.fabric.size(), 2u);
  EXPECT_EQ(h100.fabric[0].bandwidth, gb_per_s(450));
  EXPECT_EQ(h100.fabric[1].bandwidth, gb_per_s(50));
  EXPECT_EQ(h100.cluster_spec.price_per_device_hour, 0);  // nothing is said about the site
}

TEST(HardwareConfig, RacksAreFilledEvenlyWithWholeTrays) {
  struct Case {
    int64_t num_devices, devices_per_node;
  };
  for (const Case& c : {Case{32, 32}, Case{72, 72}, Case{144, 72}, Case{256, 64}, Case{1024, 64}, Case{160, 40}}) {
    EXPECT_EQ(hardware({{"cluster", "gb200-nvl72"}, {"num_devices", c.num_devices}}).devices_per_node,
              c.devices_per_node);
    EXPECT_EQ(hardware({{"device", "gb200"}, {"num_devices", c.num_devices}}).devices_per_node, c.devices_per_node);
  }
  EXPECT_EQ(hardware({{"cluster", "gb200-nvl72"}, {"num_devices", 64}, {"devices_per_node", 4}}).devices_per_node, 4);
}

TEST(HardwareConfig, ManyNodesNeedANetwork) {
  HardwareConfig many = hardware({{"device", "h100-sxm-80gb"}, {"num_devices", 16}});
  EXPECT_NO_THROW(many.validate("job.json"));
  many.fabric.resize(1);
  EXPECT_THROW(many.validate("job.json"), ConfigError);
}

TEST(HardwareConfig, ProcessesOfThisMachineTalkThroughItsMemory) {
  const HardwareConfig cpu = hardware({{"device", "cpu"}, {"num_devices", 16}});
  ASSERT_EQ(cpu.fabric.size(), 1u);
  EXPECT_EQ(cpu.fabric[0].bandwidth, cpu.spec.memory_bandwidth / 4);
}

}  // namespace
}  // namespace mmoe
