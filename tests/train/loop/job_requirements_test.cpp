#include "train/loop/job_requirements.h"

#include <gtest/gtest.h>

#include "sim/framework/framework.h"
#include "sim/plan/trainable.h"
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

constexpr const char* kMixture = R"(, "num_experts": 8, "expert_hidden_size": 32, "top_k": 2)";

Job open_job(const Case& c) {
  return parse_job(
      nlohmann::json::parse(R"({"model": {"hidden_size": 64, "num_layers": 8, "num_heads": 8, "vocab_size": 512)" +
                            std::string(c.model) + R"(}, "hardware": {"device": "cpu", "num_devices": )" +
                            std::to_string(c.num_devices) +
                            R"(}, "training": {"seq_len": 64, "global_batch_size": 32, "precision": "fp32"}})"),
      c.name, ".", {}, Layout::kOpen);
}

// The layouts that a search offers, as job files, those of them that the trainer refuses, and those that group, offload
// or recompute some layers only.
struct Offered {
  int64_t layouts = 0, refused = 0, choose_more = 0;
  std::string first_refusal;
};
Offered offered(const Job& job, const Framework& framework) {
  const LayoutSearchResult result = search_layouts(job, framework, {.top = 100000, .confidence = 0.5});
  Offered sum;
  for (const LayoutCandidate& candidate : result.candidates) {
    ++sum.layouts;
    const bool chooses = candidate.parallelism.zero_group > 0 || candidate.offload != Offload::kNone;
    sum.choose_more += chooses || candidate.recompute.num_layers > 0 ? 1 : 0;
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

// Of what multiplies a search the framework's file offers what the trainer runs.
TEST(JobRequirementsOfChoices, HoldInEveryLayout) {
  nlohmann::json json = to_json(open_job({"choices", 4, kMixture}));
  json["parallelism"] = {{"tensor", 1}, {"context", 1}, {"expert", 1}, {"expert_tensor", 1}};
  json["training"].merge_patch({{"micro_batch_size", 2}, {"recompute", "full"}});
  for (const char* key : {"recompute_num_layers", "overlap", "offload"}) json["training"].erase(key);
  Job job = parse_job(json, "choices", ".", {}, Layout::kOpen);
  job.hardware.spec.host_link = BytesPerSecond{64e9};
  job.hardware.cluster_spec.host_memory = gib(64);
  Framework framework = load_framework(job.training.framework, job.hardware.spec, "training.framework");
  const Offered ours = offered(job, framework);
  EXPECT_GT(ours.layouts, 10);
  EXPECT_EQ(ours.refused, 0) << ours.first_refusal;
  framework.choices = Framework().choices;
  const Offered all = offered(job, framework);
  EXPECT_EQ(all.refused, all.choose_more);
  EXPECT_GE(all.layouts, ours.layouts);
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

// Rows of experts on a GPU are whole 16 bytes: 8 elements in bf16, 4 in fp32.
TEST(JobRequirementsOfGpus, ExpertsHaveRowsOfWhole16Bytes) {
  const auto why = [](const char* device, int hidden, int width, const char* precision, int expert_tensor) {
    const nlohmann::json json = {{"model",
                                  {{"hidden_size", hidden},
                                   {"num_layers", 2},
                                   {"num_heads", 4},
                                   {"head_dim", 16},
                                   {"vocab_size", 512},
                                   {"num_experts", 8},
                                   {"expert_hidden_size", width},
                                   {"top_k", 2}}},
                                 {"hardware", {{"device", device}, {"num_devices", expert_tensor}}},
                                 {"parallelism", {{"expert_tensor", expert_tensor}}},
                                 {"training", {{"seq_len", 64}, {"global_batch_size", 32}, {"precision", precision}}}};
    const Job job = parse_job(json, "job.json", ".");
    const auto model = why_model_is_not_trained(job);
    return model.value_or(why_layout_is_not_trained(job).value_or(""));
  };
  constexpr const char* kGpu = "h100-sxm-80gb";
  EXPECT_EQ(why(kGpu, 64, 32, "bf16", 1), "");
  EXPECT_EQ(why(kGpu, 60, 36, "fp32", 1), "");
  EXPECT_EQ(why("cpu", 62, 37, "bf16", 1), "");
  EXPECT_EQ(why(kGpu, 60, 32, "bf16", 1),
            "model.hidden_size = 60 cannot be trained here; use a multiple of 8: a GPU's grouped products take rows of "
            "experts of whole 16 bytes");
  EXPECT_EQ(why(kGpu, 64, 34, "fp32", 1),
            "model.expert_hidden_size / parallelism.expert_tensor = 34 cannot be trained here; use a multiple of 4: a "
            "GPU's grouped products take rows of experts of whole 16 bytes");
  EXPECT_EQ(why(kGpu, 64, 48, "bf16", 2), "");
  EXPECT_NE(why(kGpu, 64, 24, "bf16", 2), "");
}

INSTANTIATE_TEST_SUITE_P(, JobRequirements,
                         testing::Values(Case{"mixture_2", 2, kMixture}, Case{"mixture_8", 8, kMixture},
                                         Case{"dense_4", 4, R"(, "dense_hidden_size": 128)"},
                                         Case{"tied_4", 4, R"(, "dense_hidden_size": 128, "tie_embeddings": true)"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mmoe
