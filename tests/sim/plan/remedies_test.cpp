#include "sim/plan/remedies.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(Remedies, KeepsWhatFitsTheCheapestFirst) {
  const Job job = example_cluster_job({{"training.micro_batch_size", "4"}});
  const std::vector<Remedy> found = find_remedies(job, 100, 0.99, [](const Job& other) {
    const auto size = static_cast<double>(other.training.micro_batch_size);
    return Outcome{size <= 2 || other.training.recompute.full ? 1.0 : 0.5, 80 + size};
  });
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].key, "training.recompute");
  EXPECT_EQ(found[0].value, "full");
  EXPECT_EQ(command_of(job, found[0]),
            "mmoe simulate --job job.json --training.micro_batch_size '4' --training.recompute 'full'");
  EXPECT_EQ(command_of(job, found[1]), "mmoe simulate --job job.json --training.micro_batch_size '2'");
  EXPECT_EQ(found[2].value, "1");
  EXPECT_EQ(found[2].tokens_per_second_lost, 19);
}

TEST(Remedies, ImpossibleJobsAreNone) {
  const Job job = example_cluster_job();
  EXPECT_TRUE(find_remedies(job, 1, 0.5, [](const Job&) -> Outcome { throw ConfigError("no"); }).empty());
}

}  // namespace
}  // namespace mmoe
