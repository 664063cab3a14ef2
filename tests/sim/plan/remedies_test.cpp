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
  EXPECT_EQ(command_of("mmoe simulate", job, found[0].settings),
            "mmoe simulate --job job.json --training.micro_batch_size 4 --training.recompute full");
  EXPECT_EQ(command_of("mmoe simulate", job, found[1].settings),
            "mmoe simulate --job job.json --training.micro_batch_size 2");
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
    EXPECT_EQ(command_of("mmoe simulate", job, found[0].settings),
              split ? "mmoe simulate --job job.json --parallelism.sequence false --parallelism.tensor 4"
                    : "mmoe simulate --job job.json --parallelism.tensor 2 --parallelism.sequence true");
  }
}

TEST(Remedies, ImpossibleJobsAreNone) {
  const Job job = example_cluster_job();
  EXPECT_TRUE(find_remedies(job, 1, 0.5, [](const Job&) -> Outcome { throw ConfigError("no"); }).empty());
}

Job open_job(const Overrides& flags, const Overrides& settings = {}) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"tensor", 2}, {"schedule", "auto"}};
  json["elastic"] = {{"k_min", 1}, {"k_max", 4}};
  return parse_job(json, "my job.json", "/", with_settings(flags, settings), Layout::kOpen);
}

const Change* change_of(const std::vector<Change>& changes, const std::string& key) {
  for (const Change& change : changes) {
    if (change.settings[0].first == key) return &change;
  }
  return nullptr;
}

TEST(Remedies, ASearchOpensWhatIsGivenAndNothingElse) {
  const Job job = open_job({});
  const std::vector<Change> changes = search_changes(job);
  ASSERT_NE(change_of(changes, "parallelism.tensor"), nullptr);
  EXPECT_EQ(change_of(changes, "parallelism.tensor")->settings, (Overrides{{"parallelism.tensor", "auto"}}));
  EXPECT_NE(change_of(changes, "training.micro_batch_size"), nullptr);
  EXPECT_EQ(change_of(changes, "parallelism.schedule"), nullptr) << "it is open already";
  EXPECT_EQ(change_of(changes, "parallelism.pipeline"), nullptr) << "it is open already";
  EXPECT_NE(change_of(changes, "elastic.budget"), nullptr);
  EXPECT_EQ(change_of(search_changes(open_job({{"elastic.budget", "auto"}})), "elastic.budget"), nullptr);
  EXPECT_EQ(change_of(search_changes(open_job({{"elastic.k_min", "4"}})), "elastic.budget"), nullptr)
      << "nothing is drawn";
  for (const Change& change : changes) {
    const Job changed = open_job({}, change.settings);
    EXPECT_FALSE(change.settings[0].second == "auto" && changed.given.contains(change.settings[0].first));
  }
}

TEST(Remedies, SettingsReplaceFlagsOfTheSameValueAndItsParts) {
  const Overrides flags = {{"elastic.budget.sum_k", "12"}, {"parallelism.tensor", "4"}};
  EXPECT_EQ(with_settings(flags, {{"elastic.budget", "auto"}}),
            (Overrides{{"parallelism.tensor", "4"}, {"elastic.budget", "auto"}}));
  EXPECT_EQ(command_of("mmoe plan", open_job(flags), {{"elastic.budget", "auto"}}),
            "mmoe plan --job 'my job.json' --parallelism.tensor 4 --elastic.budget auto");
}

RemedySearch search_of(const std::function<std::optional<Outcome>(const Job&)>& evaluate) {
  RemedySearch search;
  search.changes = search_changes(open_job({}));
  search.load = [](const Overrides& settings) { return open_job({}, settings); };
  search.evaluate = evaluate;
  return search;
}

TEST(Remedies, OfTheDevicesTheFewestThatAreEnough) {
  std::vector<int64_t> tried;
  const std::vector<Remedy> found = find_remedies(search_of([&](const Job& job) -> std::optional<Outcome> {
    const int64_t devices = job.hardware.num_devices;
    if (devices > 16) tried.push_back(devices);
    return devices >= 64 ? std::optional(Outcome{1, 10}) : std::nullopt;
  }));
  EXPECT_EQ(tried, (std::vector<int64_t>{32, 64}));
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].change, "64 devices");
  EXPECT_EQ(found[0].tokens_per_second_lost, std::nullopt) << "nothing is known of the job as it is";
}

}  // namespace
}  // namespace mmoe
