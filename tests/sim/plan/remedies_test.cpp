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
  EXPECT_EQ(found[0].settings, (Overrides{{"training.recompute", "full"}}));
  EXPECT_EQ(command_of(job, found[0]),
            "mmoe simulate --job job.json --training.micro_batch_size '4' --training.recompute 'full'");
  EXPECT_EQ(command_of(job, found[1]), "mmoe simulate --job job.json --training.micro_batch_size '2'");
  EXPECT_EQ(found[2].settings, (Overrides{{"training.micro_batch_size", "1"}}));
  EXPECT_EQ(found[2].tokens_per_second_lost, 19);
}

// Tensor ranks that all hold all tokens save less, and not every framework runs them.
TEST(Remedies, TheFirstTensorSplitComesWithSequenceParallelism) {
  for (const bool split : {false, true}) {
    const Job job = example_cluster_job({{"parallelism.tensor", split ? "2" : "1"}, {"parallelism.sequence", "false"}});
    const std::vector<Remedy> found = find_remedies(job, 0, 0.99, [&](const Job& other) {
      return Outcome{other.parallelism.tensor > job.parallelism.tensor ? 1.0 : 0.5, 0};
    });
    ASSERT_FALSE(found.empty());
    const Overrides larger{{"parallelism.tensor", "4"}};
    const Overrides first{{"parallelism.tensor", "2"}, {"parallelism.sequence", "true"}};
    EXPECT_EQ(found[0].settings, split ? larger : first);
    // Flags of the command line that the change replaces are not repeated.
    EXPECT_EQ(command_of(job, found[0]),
              split ? "mmoe simulate --job job.json --parallelism.sequence 'false' --parallelism.tensor '4'"
                    : "mmoe simulate --job job.json --parallelism.tensor '2' --parallelism.sequence 'true'");
  }
}

TEST(Remedies, ImpossibleJobsAreNone) {
  const Job job = example_cluster_job();
  EXPECT_TRUE(find_remedies(job, 1, 0.5, [](const Job&) -> Outcome { throw ConfigError("no"); }).empty());
}

}  // namespace
}  // namespace mmoe
