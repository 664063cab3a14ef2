#include "train/loop/job_requirements.h"

#include <gtest/gtest.h>

#include "sim/framework/framework.h"
#include "sim/search/layout_search.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  int num_devices;
  const char* model;  // more keys of it
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Job open_job(const Case& c) {
  return parse_job(
      nlohmann::json::parse(R"({"model": {"hidden_size": 64, "num_layers": 8, "num_heads": 8, "vocab_size": 512)" +
                            std::string(c.model) + R"(}, "hardware": {"device": "cpu", "num_devices": )" +
                            std::to_string(c.num_devices) +
                            R"(}, "training": {"seq_len": 64, "global_batch_size": 32, "precision": "fp32"}})"),
      c.name, ".", {}, Layout::kOpen);
}

// The layouts that a search offers, as job files, and those of them that the trainer refuses.
struct Offered {
  int64_t layouts = 0, refused = 0;
  std::string first_refusal;
};
Offered offered(const Job& job, const Framework& framework) {
  const LayoutSearchResult result = search_layouts(job, framework, {.top = 100000, .confidence = 0.5});
  Offered sum;
  for (const LayoutCandidate& candidate : result.candidates) {
    ++sum.layouts;
    try {
      const Job chosen = parse_job(to_json(with_layout(job, candidate)), job.where, ".");
      check_parallelism(chosen);
      training_device(chosen);
    } catch (const ConfigError& error) {
      if (sum.refused++ == 0) sum.first_refusal = error.what();
    }
  }
  return sum;
}

class JobRequirements : public testing::TestWithParam<Case> {};

TEST_P(JobRequirements, HoldForEveryLayoutThatIsPlannedForThisTrainer) {
  const Job job = open_job(GetParam());
  Framework framework = load_framework(job.training.framework, job.hardware.spec, "training.framework");
  const Offered ours = offered(job, framework);
  EXPECT_GT(ours.layouts, 10);
  EXPECT_EQ(ours.refused, 0) << ours.first_refusal;
  // Without its file's lists the search offers more, and the trainer refuses that.
  const Framework everything;
  framework.splits = everything.splits;
  framework.splits_tied_embeddings = everything.splits_tied_embeddings;
  framework.zero_stages = everything.zero_stages;
  framework.recomputes = everything.recomputes;
  const Offered all = offered(job, framework);
  EXPECT_EQ(all.layouts - all.refused, ours.layouts);
  EXPECT_GT(all.refused, 0);
}

TEST(JobRequirementsOfWholeSequences, HoldInEveryLayout) {
  Job job = open_job({"whole_sequences", 4, R"(, "dense_hidden_size": 128)"});
  job.parallelism.sequence = false;
  job.given.insert("parallelism.sequence");
  Framework framework = load_framework(job.training.framework, job.hardware.spec, "training.framework");
  const Offered ours = offered(job, framework);
  EXPECT_GT(ours.layouts, 10);
  EXPECT_EQ(ours.refused, 0) << ours.first_refusal;
  framework.splits = Framework().splits;
  EXPECT_GT(offered(job, framework).refused, 0);
}

constexpr const char* kMixture = R"(, "num_experts": 8, "expert_hidden_size": 32, "top_k": 2)";
INSTANTIATE_TEST_SUITE_P(, JobRequirements,
                         testing::Values(Case{"mixture_2", 2, kMixture}, Case{"mixture_8", 8, kMixture},
                                         Case{"dense_4", 4, R"(, "dense_hidden_size": 128)"},
                                         Case{"tied_4", 4, R"(, "dense_hidden_size": 128, "tie_embeddings": true)"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mmoe
