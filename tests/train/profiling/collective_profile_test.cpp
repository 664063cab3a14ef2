#include "train/profiling/collective_profile.h"

#include <ATen/ops/zeros.h>

#include <map>
#include <mutex>

#include "tests/train/parallel_testing.h"

namespace mmoe {
namespace {

// The profile of a job whose ranks do `work` before.
Profile profile_after(const Job& job, const std::function<void(const ProcessGroups&)>& work) {
  Profile profile;
  run_ranks(job, [&](const ProcessGroups& groups) {
    work(groups);
    Profile own = profile_collectives(job, groups, c10::kCPU);
    if (groups.rank == 0) {
      profile = std::move(own);
    } else {
      EXPECT_TRUE(own.collectives.empty());
    }
  });
  return parse_profile(to_json(profile), "profile.json");
}

using Key = std::tuple<std::string, std::string, double>;  // group, collective, bytes

std::map<Key, CollectiveRecord> by_key(const Profile& profile) {
  std::map<Key, CollectiveRecord> records;
  for (const CollectiveRecord& record : profile.collectives) {
    EXPECT_GT(record.seconds.median.value, 0);
    EXPECT_LT(record.seconds.median.value, 10);
    EXPECT_EQ(record.seconds.repetitions, 7);
    EXPECT_TRUE(record.within_node);
    records[{record.group, record.collective, record.bytes_per_call.value}] = record;
  }
  EXPECT_EQ(records.size(), profile.collectives.size());
  return records;
}

TEST(CollectiveProfile, HoldsEveryCollectiveAtTheSizesOfTheRun) {
  const Job job = small_job(R"({"hardware": {"num_devices": 4}, "parallelism": {"expert": 2},
                                "training": {"global_batch_size": 24}})");
  const auto records = by_key(profile_after(job, [](const ProcessGroups& groups) {
    const at::Tensor large = at::zeros({1 << 16}), share = at::zeros({1 << 14}), small = at::zeros({3});
    groups.world.all_reduce(small).wait();
    groups.data.reduce_scatter(share, large).wait();
    groups.data.all_gather(large, share).wait();
    // Rank r of two keeps 8 floats and gives 8 (r + 1) away: 64 and 96 bytes, two sizes of one class.
    const int64_t r = groups.expert.rank(), own = 8 * (r + 2), theirs = 8 * (3 - r);
    const std::vector<int64_t> to = r == 0 ? std::vector<int64_t>{8, 8} : std::vector<int64_t>{16, 8};
    const std::vector<int64_t> from = r == 0 ? std::vector<int64_t>{8, 16} : std::vector<int64_t>{8, 8};
    groups.expert.all_to_all(at::zeros({theirs}), at::zeros({own}), from, to).wait();
    groups.data.all_gather(large, share).wait();
  }));
  ASSERT_EQ(records.size(), 4u);
  const auto calls = [&](const char* group, const char* collective, double bytes) -> int64_t {
    const auto found = records.find({group, collective, bytes});
    return found == records.end() ? 0 : found->second.calls;
  };
  EXPECT_EQ(calls("world", "all_reduce", 12), 4);
  EXPECT_EQ(calls("data", "reduce_scatter", 262144), 4);
  EXPECT_EQ(calls("data", "all_gather", 65536), 8);
  EXPECT_EQ(calls("expert", "all_to_all", 80), 4);  // their mean
  EXPECT_EQ(records.at({"data", "all_gather", 65536}).group_size, 4);
  EXPECT_EQ(records.at({"expert", "all_to_all", 80}).group_size, 2);
}

TEST(CollectiveProfile, SendsGoTheWayOfThePipeline) {
  const Job job = small_job(R"({"model": {"num_layers": 6}, "hardware": {"num_devices": 3},
                                "parallelism": {"pipeline": 3}, "training": {"global_batch_size": 24}})");
  const auto records = by_key(profile_after(job, [](const ProcessGroups& groups) {
    const at::Tensor tensor = at::zeros({1000});
    if (groups.stage() == 1) groups.forward.receive(tensor, 0, 0).wait();
    if (groups.stage() == 0) groups.forward.send(tensor, 1, 0).wait();
    if (groups.stage() == 2) groups.backward.send(tensor, 1, 0).wait();
    if (groups.stage() == 1) groups.backward.receive(tensor, 2, 0).wait();
  }));
  ASSERT_EQ(records.size(), 2u);
  for (const char* group : {"forward", "backward"}) {
    EXPECT_EQ(records.at({group, "send", 4000}).calls, 1);
    EXPECT_EQ(records.at({group, "send", 4000}).group_size, 3);
  }
}

// Twice the buffers of a call would not fit beside a model that fills the device.
TEST(CollectiveProfile, MeasuresNoBufferAbove64MiB) {
  const Job job = small_job(R"({"hardware": {"num_devices": 2}, "training": {"global_batch_size": 24}})");
  const auto records = by_key(profile_after(job, [](const ProcessGroups& groups) {
    groups.data.all_gather(at::zeros({1 << 25}), at::zeros({1 << 24})).wait();
  }));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records.count({"data", "all_gather", 33554432}), 1u);
}

}  // namespace
}  // namespace mmoe
