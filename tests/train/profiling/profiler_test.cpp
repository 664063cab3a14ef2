#include "train/profiling/profiler.h"

#include "tests/train/trainer_testing.h"
#include "train/parallel/process_groups.h"
#include "train/profiling/probe_jobs.h"

namespace mmoe {
namespace {

TEST(Profiler, MeasuresEveryOperationAtEveryKAndWholeSteps) {
  const Job job = small_job(R"({"elastic": {"k_min": 1, "k_max": 3}})");
  ProfileOptions options;
  options.warmup = 1;
  options.repetitions = 2;
  options.probes = false;
  options.progress = [](const std::string&) {};
  const Profile profile = parse_profile(to_json(profile_job(job, options)), "profile.json");
  EXPECT_GT(profile.peaks.stream_bandwidth.value, 0);
  EXPECT_GT(profile.peaks.matmul_rate.at("fp32").value, 0);

  std::map<int64_t, double> kept;  // of layer 0's experts, forward, by k
  for (const OperationRecord& record : profile.operations) {
    EXPECT_GT(record.seconds.median.value, 0) << record.operation;
    EXPECT_EQ(record.seconds.repetitions, 2) << record.operation;
    if (record.operation == "experts" && record.phase == "forward" && record.layer == 0) {
      kept[record.k] = record.kept.value;
    }
  }
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_LT(kept[1], kept[2]);
  EXPECT_DOUBLE_EQ(kept[3] - kept[2], kept[2] - kept[1]);

  ASSERT_FALSE(profile.steps.empty());
  for (const StepRecord& record : profile.steps) {
    ASSERT_TRUE(record.predicted_peak_allocated);
    // The bound that the simulator's issue sets; fp32 differs by padding of the flat buffers alone.
    EXPECT_NEAR(record.predicted_peak_allocated->value / record.peak_allocated.value, 1, 0.02);
  }
}

// One process measures what it can run: the whole model.
TEST(Profiler, TakesAJobOfSeveralDevicesAsOneProcessTrainsIt) {
  const Job job = small_job(R"({"hardware": {"num_devices": 2}, "parallelism": {"expert": 2, "zero_stage": 1},
                                "elastic": {"k_min": 1, "k_max": 2}})");
  ProfileOptions options;
  options.warmup = 0;
  options.repetitions = 1;
  options.probes = false;
  options.progress = [](const std::string&) {};
  const Profile profile = profile_job(job, options);
  EXPECT_EQ(profile.jobs.at(0), to_json(on_one_device(job)));
  EXPECT_FALSE(profile.operations.empty());
  ASSERT_FALSE(profile.steps.empty());
  EXPECT_EQ(static_cast<int64_t>(profile.steps[0].k_per_layer.size()), on_one_device(job).num_micro_batches());
}

TEST(ProbeJobs, AreValidJobsOfOtherShapes) {
  const Job job = small_job();
  for (const Job& probe : probe_jobs(job)) {
    const Job again = parse_job(to_json(probe), probe.where, ".");
    EXPECT_EQ(again.num_micro_batches(), 1) << probe.where;
    EXPECT_TRUE(to_json(again)["model"] != to_json(job)["model"] ||
                to_json(again)["training"] != to_json(job)["training"])
        << probe.where;
  }
}

}  // namespace
}  // namespace mmoe
