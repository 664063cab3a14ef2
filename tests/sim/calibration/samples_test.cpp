#include "sim/calibration/samples.h"

#include <gtest/gtest.h>

#include "sim/throughput/step_time.h"
#include "sim/units/errors.h"
#include "tests/sim/calibration/synthetic_profile.h"

namespace mmoe {
namespace {

Calibration defaults() { return default_calibration(example_job().hardware.spec); }

// Without noise each sample's work costs exactly its measured seconds: records and work are matched right.
TEST(Samples, ReproduceTheRecordsOfTheModelItself) {
  const std::vector<ProfiledJobs> profiles = {synthetic_profile(defaults(), synthetic_jobs(), 0)};
  const FitSamples samples = collect_samples(profiles, {});
  const std::vector<double> groups = group_seconds(samples, defaults());
  ASSERT_FALSE(samples.operations.empty());
  for (const OperationSample& sample : samples.operations) {
    EXPECT_NEAR(groups[sample.group] / sample.seconds, 1, 1e-12);
  }
  for (size_t i = 0; i < samples.steps.size(); ++i) {
    const StepSample& step = samples.steps[i];
    EXPECT_NEAR(step_sample_seconds(samples, step, groups, defaults()) / step.seconds, 1, 1e-12);
    const StepTimeModel model(*samples.jobs[step.job], defaults());
    EXPECT_NEAR(model.step_seconds(profiles[0].profile.steps[i].k_per_layer).value / step.seconds, 1, 1e-12);
  }
}

TEST(Samples, LayersOfAKindAreOneSample) {
  ProfiledJobs profile = synthetic_profile(defaults(), {example_job()}, 0);
  const FitSamples samples = collect_samples({profile}, {});
  for (const OperationSample& sample : samples.operations) {
    EXPECT_EQ(sample.records, samples.groups[sample.group].kind == LayerKind::kMoe ? 4 : 1);
  }
}

TEST(Samples, HoldsOutWholeJobs) {
  const std::vector<ProfiledJobs> profiles = {synthetic_profile(defaults(), synthetic_jobs(), 0)};
  const FitSamples samples = collect_samples(profiles, {});
  EXPECT_EQ(samples.job_held_out, (std::vector<bool>{false, false, true, false, false, true}));
  for (const OperationSample& sample : samples.operations) {
    EXPECT_EQ(sample.held_out, samples.job_held_out[samples.groups[sample.group].job]);
  }
  FitOptions all;
  all.hold_out = false;
  for (const OperationSample& sample : collect_samples(profiles, all).operations) EXPECT_FALSE(sample.held_out);
}

TEST(Samples, NeverHoldsOutTheOnlyJobOfAPrecision) {
  std::vector<Job> jobs = {example_job(), example_job(), example_job()};
  jobs[2].training.precision = Precision::kBf16;
  const std::vector<ProfiledJobs> profiles = {synthetic_profile(defaults(), jobs, 0)};
  EXPECT_FALSE(collect_samples(profiles, {}).job_held_out[2]);
}

TEST(Samples, OfOneJobHoldsOutValuesOfK) {
  const std::vector<ProfiledJobs> profiles = {synthetic_profile(defaults(), {example_job()}, 0)};
  const FitSamples samples = collect_samples(profiles, {});
  int held_out = 0;
  for (const OperationSample& sample : samples.operations) {
    const WorkGroup& group = samples.groups[sample.group];
    const bool by_k = group.operation == Operation::kExperts || group.operation == Operation::kRouter;
    EXPECT_EQ(sample.held_out, by_k && (group.k == 2 || group.k == 5));
    held_out += sample.held_out;
  }
  EXPECT_EQ(held_out, 8);  // router and experts, forward and backward, two values of k
}

TEST(Samples, UnknownOperationsAreIgnored) {
  ProfiledJobs profile = synthetic_profile(defaults(), {example_job()}, 0);
  profile.profile.operations[0].operation = "allreduce";
  profile.profile.operations[1].seconds.median = Seconds{0};
  EXPECT_EQ(collect_samples({profile}, {}).ignored_records, 2);
}

TEST(Samples, RecordsMustFitTheirJob) {
  const auto error = [](auto change) {
    ProfiledJobs profile = synthetic_profile(defaults(), {example_job()}, 0);
    change(profile.profile);
    try {
      collect_samples({profile}, {});
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(error([](Profile& p) { p.operations.back().layer = 9; }).find("].layer = 9 but its job has 4 layers"),
            std::string::npos);
  EXPECT_NE(error([](Profile& p) {
              p.operations.back().operation = "experts";
              p.operations.back().k = 17;
            }).find("].k = 17 but its job has 16 experts"),
            std::string::npos);
  EXPECT_NE(error([](Profile& p) { p.steps[0].k_per_layer = {{1}}; }).find("profile.json: steps[0].k_per_layer has 1"),
            std::string::npos);
  EXPECT_NE(error([](Profile& p) { p.steps[0].k_per_layer[0][0] = 99; }).find("holds k = 99"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
