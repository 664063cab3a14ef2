// What the trainer hands to each collective is what the simulator says, to the byte.

#include <mutex>

#include "sim/plan/trainer_traffic.h"
#include "tests/train/parallel_testing.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  int num_devices;
  const char* parallelism;
  const char* training;  // more keys of it
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Traffic : public testing::TestWithParam<Case> {};

TEST_P(Traffic, IsWhatTheSimulatorPredicts) {
  const Case& c = GetParam();
  // Sizes that are no multiples of 16, so that padding shows.
  const Job job = small_job(R"({"model": {"num_layers": 4, "hidden_size": 40, "expert_hidden_size": 10,
                                          "shared_expert_hidden_size": 6, "qk_norm": "per_head"},
                                "hardware": {"num_devices": )" +
                            std::to_string(c.num_devices) + R"(}, "parallelism": {)" + c.parallelism +
                            R"(}, "training": {"global_batch_size": 8, "micro_batch_size": 1)" + c.training + "}}");
  TrafficByGroup measured;
  std::vector<std::vector<int>> k;
  std::mutex mutex;
  run_ranks(job, [&](const ProcessGroups& groups) {
    Trainer trainer(job, c10::kCPU, groups);
    for (const Communicator* group : groups.connected()) group->reset_traffic();
    const int64_t samples = 8 / job.data_parallel_size();
    const at::Tensor tokens = random_tokens({8, job.training.seq_len}, job.model.vocab_size, 1)
                                  .narrow(0, groups.data_index() * samples, samples);
    const std::vector<std::vector<int>> drawn = trainer.draw(1);
    trainer.run_step(1, 9, tokens, tokens, drawn);
    const std::lock_guard lock(mutex);
    k = drawn;
    for (const Communicator* group : groups.connected()) {
      for (int i = 0; i < kNumCollectiveCalls; ++i) {
        const mmoe::Traffic& traffic = group->traffic()[i];
        if (traffic.calls == 0) continue;
        CollectiveTraffic& sum = measured[group->name()][name_of(static_cast<CollectiveCall>(i))];
        sum.calls += traffic.calls;
        sum.bytes += traffic.bytes;
      }
    }
  });
  const TrafficByGroup predicted = trainer_traffic(job, k);
  const auto text = [](const TrafficByGroup& traffic) {
    std::string lines;
    for (const auto& [group, collectives] : traffic) {
      for (const auto& [name, sum] : collectives) {
        lines +=
            group + " " + name + " " + std::to_string(sum.calls) + " calls " + std::to_string(sum.bytes) + " bytes\n";
      }
    }
    return lines;
  };
  EXPECT_EQ(text(measured), text(predicted));
  EXPECT_FALSE(measured.empty());
}

INSTANTIATE_TEST_SUITE_P(
    , Traffic,
    testing::Values(Case{"data_2", 2, "", ""}, Case{"zero_1", 2, R"("zero_stage": 1)", ""},
                    Case{"bf16_expert_4", 4, R"("expert": 4)", R"(, "precision": "bf16")"},
                    Case{"expert_2_recomputed", 2, R"("expert": 2)", R"(, "recompute": "full")"},
                    Case{"data_2_expert_2_zero_1", 4, R"("expert": 2, "zero_stage": 1)", R"(, "recompute": ["moe"])"},
                    Case{"zero_2", 2, R"("zero_stage": 2)", ""}, Case{"zero_3", 2, R"("zero_stage": 3)", ""},
                    Case{"zero_3_in_turn", 2, R"("zero_stage": 3)", R"(, "overlap": false, "recompute": "full")"},
                    Case{"bf16_data_2_expert_2_zero_3", 4, R"("expert": 2, "zero_stage": 3)",
                         R"(, "precision": "bf16", "recompute": ["attention"])"},
                    Case{"data_2_pipeline_2_zero_2", 4, R"("pipeline": 2, "zero_stage": 2)", ""},
                    Case{"data_2_interleaved_2_zero_3", 4, R"("pipeline": 2, "virtual_pipeline": 2, "zero_stage": 3)",
                         R"(, "precision": "bf16")"},
                    Case{"fp64_pipeline_4", 4, R"("pipeline": 4)", R"(, "precision": "fp64")"},
                    Case{"interleaved_2", 2, R"("pipeline": 2, "virtual_pipeline": 2)", ""},
                    Case{"documents_apart", 2, "", R"(, "reset_attention_mask": true)"},
                    Case{"tensor_2", 2, R"("tensor": 2, "sequence": true)", ""},
                    Case{"tensor_2_data_2_zero_1_recomputed", 4, R"("tensor": 2, "sequence": true, "zero_stage": 1)",
                         R"(, "recompute": "full")"},
                    Case{"bf16_tensor_2_data_2_recomputed_attention", 4, R"("tensor": 2, "sequence": true)",
                         R"(, "precision": "bf16", "recompute": ["attention"])"},
                    Case{"tensor_2_expert_2_interleaved_2", 4,
                         R"("tensor": 2, "sequence": true, "expert": 2, "pipeline": 2, "virtual_pipeline": 2)",
                         R"(, "recompute": ["moe"])"},
                    Case{"data_2_expert_2_pipeline_2", 8, R"("pipeline": 2, "expert": 2, "zero_stage": 1)", ""},
                    Case{"data_2_expert_tensor_2_zero_1", 4, R"("expert_tensor": 2, "zero_stage": 1)", ""},
                    Case{"bf16_expert_2_expert_tensor_2_recomputed", 4, R"("expert": 2, "expert_tensor": 2)",
                         R"(, "precision": "bf16", "recompute": ["moe"])"},
                    Case{"tensor_2_expert_tensor_2_pipeline_2", 4,
                         R"("tensor": 2, "sequence": true, "expert_tensor": 2, "pipeline": 2)", ""},
                    Case{"context_2", 2, R"("context": 2, "context_kind": "alltoall")", ""},
                    Case{"bf16_context_2_data_2_expert_2_zero_1_recomputed", 4,
                         R"("context": 2, "context_kind": "alltoall", "expert": 2, "zero_stage": 1)",
                         R"(, "precision": "bf16", "recompute": "full", "reset_attention_mask": true)"},
                    Case{"context_2_pipeline_2_zero_3", 4,
                         R"("context": 2, "context_kind": "alltoall", "pipeline": 2, "zero_stage": 3)",
                         R"(, "recompute": ["attention"])"},
                    Case{"context_2_tensor_2_expert_4", 4,
                         R"("context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": true, "expert": 4)",
                         R"(, "recompute": ["moe"])"},
                    Case{"context_4_zero_2", 8, R"("context": 4, "context_kind": "alltoall", "zero_stage": 2)",
                         R"(, "recompute": ["attention"])"},
                    Case{"bf16_context_2_expert_tensor_2_interleaved_2", 4,
                         R"("context": 2, "context_kind": "alltoall", "expert_tensor": 2, "pipeline": 2,
                            "virtual_pipeline": 2)",
                         R"(, "precision": "bf16", "reset_attention_mask": true)"},
                    Case{"context_2_expert_2_expert_tensor_2_zero_3", 4,
                         R"("context": 2, "context_kind": "alltoall", "expert": 2, "expert_tensor": 2,
                            "zero_stage": 3)",
                         R"(, "recompute": "full")"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mmoe
