// A rank on meta tensors against the plan, and against what the same operations ask of the CPU's allocator.

#include "train/loop/dry_run.h"

#include <fstream>
#include <random>
#include <utility>

#include "sim/plan/trainer_ranks.h"
#include "tests/train/cpu_products_guard.h"
#include "tests/train/trainer_testing.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  const char* patch;  // of the job
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Job dry_job(const Case& c) {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 128, "num_layers": 4, "num_heads": 4, "vocab_size": 1024, "num_experts": 16,
              "expert_hidden_size": 64},
    "hardware": {"device": "cpu"},
    "training": {"seq_len": 128, "micro_batch_size": 4, "global_batch_size": 32, "precision": "fp32", "seed": 3},
    "elastic": {"k_min": 1, "k_max": 6}})");
  json.merge_patch(nlohmann::json::parse(c.patch));
  return parse_job(json, c.name, ".");
}

std::vector<std::vector<int>> draws(const Job& job, int64_t step) {
  return draws_of_all_replicas(job, StepDraws(job), step);
}

void add(TrafficByGroup& sum, const TrafficByGroup& more) {
  for (const auto& [group, collectives] : more) {
    for (const auto& [name, traffic] : collectives) {
      sum[group][name].calls += traffic.calls;
      sum[group][name].bytes += traffic.bytes;
    }
  }
}

std::string text(const TrafficByGroup& traffic) {
  std::string lines;
  for (const auto& [group, collectives] : traffic) {
    for (const auto& [name, sum] : collectives) {
      lines += group + " " + name + " " + std::to_string(sum.calls) + " of " + std::to_string(sum.bytes) + "\n";
    }
  }
  return lines;
}

class DryRunOfEveryRank : public testing::TestWithParam<Case> {};

TEST_P(DryRunOfEveryRank, AgreesWithThePlan) {
  const Job job = dry_job(GetParam());
  const std::vector<std::vector<int>> k = draws(job, 2);
  TrafficByGroup sum;
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    const DryRun run = dry_run(job, rank, k);
    EXPECT_EQ(text(run.counted_messages), text(run.predicted_messages)) << "rank " << rank;
    EXPECT_TRUE(run.peak_agrees()) << "rank " << rank << ": " << run.peak_error() << " at " << run.moment;
    std::cout << GetParam().name << " rank " << rank << ": predicted " << run.predicted.peak() << " counted "
              << run.counted.peak() << " error " << 100 * run.peak_error() << " %\n";
    add(sum, run.counted_messages);
  }
  // Equal shares of the rows are whole here, so that the ranks' sum is what all send whatever the routing.
  EXPECT_EQ(text(sum), text(trainer_traffic(job, k)));
  EXPECT_EQ(sum.empty(), job.hardware.num_devices == 1);
}

INSTANTIATE_TEST_SUITE_P(
    , DryRunOfEveryRank,
    testing::Values(
        Case{"one_device", "{}"}, Case{"data_2", R"({"hardware": {"num_devices": 2}})"},
        Case{"zero_1", R"({"hardware": {"num_devices": 2}, "parallelism": {"zero_stage": 1}})"},
        Case{"zero_2", R"({"hardware": {"num_devices": 2}, "parallelism": {"zero_stage": 2}})"},
        Case{"zero_3", R"({"hardware": {"num_devices": 2}, "parallelism": {"zero_stage": 3},
                           "training": {"overlap": false}})"},
        Case{"pipeline_2", R"({"hardware": {"num_devices": 2}, "parallelism": {"pipeline": 2}})"},
        Case{"interleaved_2",
             R"({"hardware": {"num_devices": 2}, "parallelism": {"pipeline": 2, "virtual_pipeline": 2}})"},
        Case{"expert_2_data_2", R"({"hardware": {"num_devices": 4}, "parallelism": {"expert": 2}})"},
        Case{"expert_4_zero_1_recomputed",
             R"({"hardware": {"num_devices": 4}, "parallelism": {"expert": 4, "zero_stage": 1},
                 "training": {"recompute": "full"}})"},
        Case{"data_2_expert_2_pipeline_2_zero_1",
             R"({"hardware": {"num_devices": 8}, "parallelism": {"expert": 2, "pipeline": 2, "zero_stage": 1},
                 "training": {"recompute": ["moe"], "micro_batch_size": 2}})"},
        Case{"documents_apart", R"({"hardware": {"num_devices": 2}, "training": {"reset_attention_mask": true}})"},
        Case{"gated_shared_expert",
             R"({"model": {"shared_expert_hidden_size": 128, "shared_expert_gate": true, "qkv_bias": true,
                           "qk_norm": "per_head", "num_kv_heads": 2, "num_dense_layers": 1, "dense_hidden_size": 512},
                 "hardware": {"num_devices": 2}, "parallelism": {"expert": 2}})"},
        Case{"tensor_2_expert_2_pipeline_2",
             R"({"model": {"shared_expert_hidden_size": 128, "qk_norm": "full"}, "hardware": {"num_devices": 4},
                 "parallelism": {"tensor": 2, "sequence": true, "expert": 2, "pipeline": 2}})"},
        Case{"expert_2_all_saved", R"({"hardware": {"num_devices": 2}, "parallelism": {"expert": 2},
                                      "training": {"expert_saving": "all"}})"},
        Case{"expert_2_experts_again", R"({"hardware": {"num_devices": 2}, "parallelism": {"expert": 2},
                                          "training": {"expert_saving": "recompute"}})"},
        Case{"frozen_experts_zero_1", R"({"hardware": {"num_devices": 4}, "training": {"freeze": ["experts"]},
                                         "parallelism": {"expert": 2, "zero_stage": 1}})"},
        Case{"gpu_expert_2_all_saved",
             R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 2}, "parallelism": {"expert": 2},
                 "training": {"precision": "bf16", "expert_saving": "all"}})"},
        Case{"gpu_expert_2_zero_1",
             R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 4},
                 "parallelism": {"expert": 2, "zero_stage": 1}, "training": {"precision": "bf16"}})"},
        Case{"expert_2_expert_tensor_2_pipeline_2",
             R"({"hardware": {"num_devices": 8}, "parallelism": {"expert": 2, "expert_tensor": 2, "pipeline": 2},
                 "training": {"micro_batch_size": 2}})"},
        Case{"gpu_tensor_2_expert_tensor_2_zero_3",
             R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 4},
                 "parallelism": {"tensor": 2, "sequence": true, "expert_tensor": 2, "zero_stage": 3},
                 "training": {"precision": "bf16", "expert_saving": "all"}})"},
        Case{"context_2_data_2_expert_2_recomputed",
             R"({"hardware": {"num_devices": 4}, "training": {"recompute": "full"},
                 "parallelism": {"context": 2, "context_kind": "alltoall", "expert": 2}})"},
        Case{"gpu_context_2_tensor_2_zero_3_documents_apart",
             R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 4},
                 "parallelism": {"context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": true,
                                 "zero_stage": 3},
                 "training": {"precision": "bf16", "reset_attention_mask": true}})"},
        Case{"gpu_fp32_pipeline_2",
             R"({"hardware": {"device": "h100-sxm-80gb", "num_devices": 2}, "parallelism": {"pipeline": 2}})"}),
    [](const auto& test) { return std::string(test.param.name); });

// Every product of degrees 1 and 2 (experts also 4, pipelines also interleaved, data whatever remains) on up to 8
// ranks, under every ZeRO stage.
std::vector<nlohmann::json> products_of_degrees() {
  std::vector<nlohmann::json> patches;
  for (const auto& [pipeline, chunks] : {std::pair{1, 1}, {2, 1}, {2, 2}}) {
    for (int devices = 2; devices <= 8; devices *= 2) {
      const int stage = devices / pipeline;
      for (int split = 0; split < 4; ++split) {
        const int tensor = 1 + split % 2, context = 1 + split / 2;
        if (stage % (tensor * context) != 0) continue;
        for (const auto& [expert, expert_tensor] : {std::pair{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}, {4, 2}}) {
          if (stage % (expert * expert_tensor) != 0) continue;
          for (int zero = 0; zero <= 3; ++zero) {
            patches.push_back({{"hardware", {{"num_devices", devices}}},
                               {"parallelism",
                                {{"tensor", tensor},
                                 {"sequence", tensor > 1},
                                 {"context", context},
                                 {"context_kind", "alltoall"},
                                 {"pipeline", pipeline},
                                 {"virtual_pipeline", chunks},
                                 {"expert", expert},
                                 {"expert_tensor", expert_tensor},
                                 {"zero_stage", zero}}}});
          }
        }
      }
    }
  }
  return patches;
}

// With what else a job may say drawn for each, the same in every run of the test; so are the two ranks that are built,
// of which each stage has one.
TEST(DryRun, EveryProductOfDegreesAgreesWithItsPlan) {
  // Of the library's products shapes do not show the scratch, more than 2 % of jobs this small.
  const CpuProductsGuard guard;
  cpu_bf16_products() = CpuProducts::kKernel;
  std::mt19937 random(6);
  const auto one_of = [&](const std::vector<const char*>& values) {
    return nlohmann::json::parse(values[random() % values.size()]);
  };
  const std::vector<nlohmann::json> patches = products_of_degrees();
  EXPECT_EQ(patches.size(), 4u * ((9 + 20 + 24) + 2 * (1 + 9 + 20)));
  int64_t built = 0;
  for (nlohmann::json patch : patches) {
    patch["training"] = {{"recompute", one_of({R"("none")", R"("full")", R"(["attention"])", R"(["moe"])"})},
                         {"reset_attention_mask", one_of({"false", "true"})},
                         {"expert_saving", one_of({R"("lean")", R"("all")", R"("recompute")"})},
                         {"overlap", false}};
    patch["model"]["shared_expert_hidden_size"] = one_of({"0", "64"});
    patch["model"]["num_dense_layers"] = one_of({"0", "1"});
    patch["model"]["dense_hidden_size"] = 256;
    patch["hardware"]["device"] = one_of({R"("h100-sxm-80gb")", R"("cpu")"});
    patch["training"]["precision"] = one_of({R"("fp32")", R"("bf16")"});
    const std::string words = patch.dump();
    const Job job = dry_job({words.c_str(), words.c_str()});
    const std::vector<std::vector<int>> k = draws(job, 2);
    const int64_t half = job.hardware.num_devices / 2, place = static_cast<int64_t>(random()) % half;
    for (const int64_t rank : {place, half + place}) {
      const DryRun run = dry_run(job, rank, k);
      EXPECT_EQ(text(run.counted_messages), text(run.predicted_messages)) << "rank " << rank << " of " << words;
      EXPECT_TRUE(run.peak_agrees()) << "rank " << rank << " of " << words << ": " << run.peak_error() << " at "
                                     << run.moment;
      ++built;
    }
  }
  EXPECT_EQ(built, 2 * static_cast<int64_t>(patches.size()));
}

// The experts of rank 0 get three rows in four.
TEST(DryRun, RowsFollowTheStatedLoad) {
  const std::string load = testing::TempDir() + "mmoe_dry_load.json";
  std::ofstream(load) << "[3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1]";
  const std::string patch = R"({"hardware": {"num_devices": 2}, "parallelism": {"expert": 2},
                                "training": {"moe": {"load": ")" +
                            load + R"("}}})";
  const Job job = dry_job({"skewed", patch.c_str()});
  const std::vector<std::vector<int>> k = draws(job, 1);
  const DryRun busy = dry_run(job, 0, k), idle = dry_run(job, 1, k);
  for (const DryRun* run : {&busy, &idle}) {
    EXPECT_TRUE(run->messages_agree()) << text(run->counted_messages) << text(run->predicted_messages);
    EXPECT_TRUE(run->peak_agrees()) << run->peak_error();
  }
  EXPECT_GT(busy.counted.activations, 1.5 * idle.counted.activations);
  TrafficByGroup sum = busy.counted_messages;
  add(sum, idle.counted_messages);
  EXPECT_EQ(text(sum), text(trainer_traffic(job, k)));  // a quarter of each number of pairs is whole
}

// Without a plan between them: what the trainer allocates on the CPU for the same draws.
TEST(DryRun, CountsWhatTheCpuAllocates) {
  for (const char* patch :
       {"{}", R"({"training": {"recompute": ["attention"]}})", R"({"training": {"precision": "fp64"}})",
        R"({"model": {"shared_expert_hidden_size": 64, "qk_norm": "full"}})"}) {
    nlohmann::json json = nlohmann::json::parse(patch);
    json["training"]["global_batch_size"] = 8;
    const std::string text_of_job = json.dump();
    const Job job = dry_job({"cpu", text_of_job.c_str()});
    const std::vector<std::vector<int>> k = draws(job, 1);
    const DryRun run = dry_run(job, 0, k);
    const int64_t before = counted_bytes();
    Trainer trainer(job, c10::kCPU);
    const at::Tensor tokens = random_tokens({8, job.training.seq_len}, job.model.vocab_size, 1);
    const at::Tensor targets = random_tokens({8, job.training.seq_len}, job.model.vocab_size, 2);
    const auto measured = static_cast<double>(trainer.run_step(1, 1, tokens, targets, k).peak_allocated_bytes - before);
    std::cout << patch << ": counted " << run.counted.peak() - measured << " bytes beyond " << measured << "\n";
    // Of kernels' scratch memory only attention's is counted; the others have a few rows of sums a thread, below 50 kB.
    EXPECT_NEAR(run.counted.peak(), measured, 5e4) << patch;
  }
}

// A large model on 16,384 GPUs: no tensor of it takes memory here.
TEST(DryRun, OneRankOfAWorldOf16384TakesNoMemory) {
  const Job job = parse_job(nlohmann::json::parse(R"({
    "model": {"hidden_size": 5120, "num_layers": 64, "num_heads": 40, "num_kv_heads": 8, "vocab_size": 128000,
              "num_experts": 128, "expert_hidden_size": 1536},
    "hardware": {"device": "h100-sxm-80gb", "num_devices": 16384},
    "parallelism": {"pipeline": 8, "expert": 32, "zero_stage": 1},
    "training": {"seq_len": 4096, "micro_batch_size": 1, "global_batch_size": 32768, "precision": "bf16",
                 "recompute": "full"},
    "elastic": {"k_min": 1, "k_max": 6}})"),
                            "large", ".");
  const std::vector<std::vector<int>> k = draws(job, 1);
  reset_counted_peak();
  const int64_t before = counted_bytes();
  const DryRun run = dry_run(job, 12345, k);
  std::cout << "16384 ranks: " << run.seconds << " s, counted " << run.counted.peak() << " error "
            << 100 * run.peak_error() << " %\n";
  EXPECT_EQ(run.stage, 6);
  EXPECT_EQ(text(run.counted_messages), text(run.predicted_messages));
  EXPECT_TRUE(run.peak_agrees()) << run.peak_error();
  EXPECT_GT(run.counted.peak(), 10.0 * (int64_t{1} << 30));
  EXPECT_LT(counted_peak_bytes() - before, int64_t{16} << 20);  // RoPE's table and the step's tokens
}

}  // namespace
}  // namespace mmoe
