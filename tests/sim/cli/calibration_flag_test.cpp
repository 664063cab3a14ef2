#include "sim/cli/calibration_flag.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "sim/cli/plan_json.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

Job job_on(int num_devices, const std::string& framework = "mmoe") {
  nlohmann::json job = R"({"model": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256,
      "num_experts": 8, "expert_hidden_size": 32}, "hardware": {"device": "cpu"}, "parallelism": {"zero_stage": 0},
      "training": {"seq_len": 64, "micro_batch_size": 1, "global_batch_size": 8, "precision": "fp32", "overlap": false},
      "elastic": {"k_min": 1, "k_max": 4}})"_json;
  job["hardware"]["num_devices"] = num_devices;
  job["training"]["framework"] = framework;
  return parse_job(job, "job.json", "");
}

class CalibrationFlag : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  // A calibration of this CPU, its links at `latency_seconds` where that is not 0.
  std::string calibration(double latency_seconds, const std::string& device = "cpu") const {
    Calibration calibration = default_calibration(job_on(2).hardware.spec);
    calibration.device = device;
    if (latency_seconds > 0) {
      calibration.parameters.push_back({"link_latency.node", latency_seconds, 0, 1e-8, 0.2, "s", ""});
      calibration.parameters.push_back({"link_bandwidth.node", 2e9, 0, 1e6, 1e13, "bytes/s", ""});
    }
    save_calibration(calibration, path_);
    return path_;
  }

  const std::string path_ = testing::TempDir() + "calibration_flag." + std::to_string(getpid()) + ".json";
};

// Without overlap nothing of the gradients' two all-reduces (experts' and others') is hidden, nor of those of the norm
// and the step's report: with a hop 1 ms longer each takes 2 hops longer.
TEST_F(CalibrationFlag, StepTimesOfSeveralDevicesFollowTheLinks) {
  const auto step = [&](double latency) {
    return plan_json(job_on(2), calibration(latency)).at("throughput").at("step_seconds").get<double>();
  };
  const Framework framework = framework_for(calibration(1e-3), job_on(2));
  ASSERT_EQ(framework.network.measured.size(), 1u);
  EXPECT_EQ(framework.network.measured[0].latency->value, 1e-3);
  EXPECT_EQ(framework.network.measured[0].bandwidth->value, 2e9);
  EXPECT_NEAR(step(2e-3) - step(1e-3), 4 * 2 * 1e-3, 1e-9);
  const std::string text = plan_json(job_on(2), calibration(1e-3)).at("evidence").at("calibration");
  EXPECT_NE(text.find("; links by " + path_), std::string::npos) << text;
}

// A trainer whose operations were measured at half the rate computes for longer; other frameworks have their own rates.
TEST_F(CalibrationFlag, StepTimesOfOurTrainerFollowItsOperations) {
  const auto with_rate = [&](double factor) {
    Calibration calibration = default_calibration(job_on(2).hardware.spec);
    calibration.find("gemm_efficiency")->value *= factor;
    calibration.parameters.push_back({"link_latency.node", 1e-4, 0, 1e-8, 0.2, "s", ""});
    save_calibration(calibration, path_);
    return path_;
  };
  const auto products = [&](double factor, const std::string& framework) {
    const nlohmann::json plan = plan_json(job_on(2, framework), with_rate(factor));
    return plan.at("throughput").at("breakdown_seconds").at("matrix_products").get<double>();
  };
  EXPECT_GT(products(0.5, "mmoe"), 1.2 * products(1, "mmoe"));
  EXPECT_EQ(products(0.5, "megatron_core"), products(1, "megatron_core"));
}

TEST_F(CalibrationFlag, FilesThatSayNothingOfTheLinksAreRefusedInOneLine) {
  const auto error = [](const std::function<void()>& call) {
    try {
      call();
    } catch (const ConfigError& refused) {
      return std::string(refused.what());
    }
    return std::string();
  };
  EXPECT_NE(
      error([&] { framework_for(calibration(0), job_on(2, "megatron_core")); }).find("has no link that was fitted"),
      std::string::npos);
  EXPECT_EQ(error([&] { framework_for(calibration(0), job_on(2)); }), "");  // its operations are our trainer's
  EXPECT_NE(error([&] { framework_for(calibration(1e-3, "mi300x"), job_on(2)); }).find("was fitted to mi300x"),
            std::string::npos);
  EXPECT_EQ(error([&] { plan_json(job_on(1), calibration(1e-3)); }), "");  // of one device nothing is sent
}

}  // namespace
}  // namespace mmoe
