// Every layout trains what one process trains: the same draws, losses and weights, to the rounding of sums that are
// formed in another order.

#include <ATen/ops/cat.h>

#include <map>
#include <mutex>

#include "tests/train/parallel_testing.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

constexpr int64_t kSteps = 20;
constexpr int64_t kFewSteps = 4;  // of further products of what has been compared over all of them

struct Case {
  const char* name;
  int num_devices;
  const char* parallelism;
  // Larger ones make fewer collectives and so a shorter test; every rank still sums over at least two micro-batches.
  int micro_batch_size = 1;
  const char* training = "";  // more keys of it
  int64_t steps = kSteps;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Job job_of(const std::string& hardware, const std::string& parallelism, const char* precision, const Case& c) {
  // Every tensor that a layout can split. Two groups of MoE layers, so that the law is the same in every layout.
  return small_job(R"({"model": {"num_layers": 5, "num_dense_layers": 1, "dense_hidden_size": 24, "num_heads": 8,
                                 "num_kv_heads": 4, "qkv_bias": true, "qk_norm": "full",
                                 "shared_expert_hidden_size": 8, "shared_expert_gate": true},
                       "hardware": {)" +
                   hardware + R"(}, "parallelism": {)" + parallelism +
                   R"(}, "training": {"global_batch_size": 8, "learning_rate": 1e-3, "micro_batch_size": )" +
                   std::to_string(c.micro_batch_size) + R"(, "precision": ")" + precision + R"(")" + c.training + R"(},
                       "elastic": {"budget": {"kind": "at_most", "sum_k": 7, "groups": [2, 2]}}})");
}

struct Outcome {
  std::vector<StepResult> steps;
  std::map<std::string, at::Tensor> weights;
};

Outcome train(Trainer& trainer, const ProcessGroups& groups, const Job& job, int64_t steps) {
  const int64_t samples = job.training.global_batch_size, mine = samples / job.data_parallel_size();
  Outcome outcome;
  trainer.measure_routing(true);
  for (int64_t step = 1; step <= steps; ++step) {
    const auto part = [&](uint64_t seed) {
      return random_tokens({samples, job.training.seq_len}, job.model.vocab_size, seed)
          .narrow(0, groups.data_index() * mine, mine);
    };
    const auto seed = static_cast<uint64_t>(step % 4);
    at::Tensor targets = part(seed + 100);
    if (job.training.reset_attention_mask) targets.masked_fill_(targets.remainder(6).eq(0), kNoTarget);
    outcome.steps.push_back(trainer.run_step(step, kSteps, part(seed), targets, trainer.draw(step)));
  }
  for (const Parameter& parameter : trainer.transformer().parameters().all()) {
    outcome.weights[parameter.name] = parameter.master;
  }
  return outcome;
}

// What one process trains. Layouts that differ in nothing else share it.
const Outcome& train_alone(const char* precision, const Case& c) {
  static std::map<std::string, Outcome> outcomes;
  Outcome& outcome = outcomes[std::string(precision) + "/" + std::to_string(c.micro_batch_size) + c.training +
                              std::to_string(c.steps)];
  if (outcome.steps.empty()) {
    const Job job = job_of(R"("num_devices": 1)", "", precision, c);
    Trainer trainer(job, c10::kCPU);
    outcome = train(trainer, no_groups(), job, c.steps);
  }
  return outcome;
}

class ParallelTraining : public testing::TestWithParam<Case> {
 protected:
  // `bound` on relative errors.
  void compare(const char* precision, double bound) {
    const Outcome& expected = train_alone(precision, GetParam());
    const Job job = job_of(R"("num_devices": )" + std::to_string(GetParam().num_devices), GetParam().parallelism,
                           precision, GetParam());
    std::mutex mutex;
    std::map<std::string, int64_t> elements_seen;
    run_ranks(job, [&](const ProcessGroups& groups) {
      Trainer trainer(job, c10::kCPU, groups);
      const Outcome outcome = train(trainer, groups, job, GetParam().steps);
      const std::lock_guard lock(mutex);
      for (size_t i = 0; i < outcome.steps.size(); ++i) {
        EXPECT_EQ(outcome.steps[i].k_per_layer, expected.steps[i].k_per_layer);
        EXPECT_NEAR(outcome.steps[i].loss, expected.steps[i].loss, bound * expected.steps[i].loss) << "step " << i + 1;
        EXPECT_NEAR(outcome.steps[i].grad_norm, expected.steps[i].grad_norm, bound * expected.steps[i].grad_norm);
        EXPECT_NEAR(outcome.steps[i].load_balance_loss, expected.steps[i].load_balance_loss, bound);
        EXPECT_NEAR(outcome.steps[i].z_loss, expected.steps[i].z_loss, bound * expected.steps[i].z_loss);
        for (size_t layer = 0; layer < expected.steps[i].routing.size(); ++layer) {
          const RoutingMetrics &ours = outcome.steps[i].routing[layer], &theirs = expected.steps[i].routing[layer];
          EXPECT_EQ(ours.tokens_per_expert, theirs.tokens_per_expert) << "step " << i + 1 << " layer " << layer;
          EXPECT_NEAR(ours.entropy, theirs.entropy, bound * theirs.entropy);
        }
        EXPECT_EQ(outcome.steps[i].peak_allocated_bytes_by_rank.size(), job.hardware.num_devices);
      }
      const ParameterStore& parameters = trainer.transformer().parameters();
      for (const HeldElements& held : parameters.held()) {
        const Parameter& parameter = *held.parameter;
        at::Tensor part = expected.weights.at(parameter.name);
        std::vector<at::Tensor> boxes;
        for (const TensorBox& box : parameter.part.boxes) boxes.push_back(values_in(part, box));
        if (!boxes.empty()) part = at::cat(boxes);
        const int64_t count = held.elements.size();
        EXPECT_LE(relative_error(parameters.master().narrow(0, held.first, count),
                                 part.reshape({-1}).narrow(0, held.elements.begin, count)),
                  bound)
            << parameter.name << " on rank " << groups.rank;
        elements_seen[parameter.name] += count;
      }
    });
    for (const auto& [name, weight] : expected.weights) EXPECT_GE(elements_seen[name], weight.numel()) << name;
  }
};

// A gradient is sums over 8 x 16 tokens through five layers of two sums of at most 96 terms, so summed in another order
// it differs by e = tolerance(type, 128 + 10 * 96, 0) of its size. Adam makes that at most 2 e of an update of 1e-3; 20
// of them against weights of spread 0.11 are 0.4 e.
double bound(at::ScalarType type) { return tolerance(type, 128 + 10 * 96, 0); }

TEST_P(ParallelTraining, IsThatOfOneProcessInFp64) { compare("fp64", bound(at::kDouble)); }

TEST_P(ParallelTraining, IsThatOfOneProcessInFp32) { compare("fp32", bound(at::kFloat)); }

INSTANTIATE_TEST_SUITE_P(
    , ParallelTraining,
    testing::Values(
        Case{"data_2", 2, "", 2}, Case{"zero_1", 2, R"("zero_stage": 1)", 2},
        Case{"zero_2", 2, R"("zero_stage": 2)", 2}, Case{"zero_3", 2, R"("zero_stage": 3)", 2},
        Case{"expert_2", 2, R"("expert": 2)", 2}, Case{"expert_4", 4, R"("expert": 4)"},
        Case{"data_2_expert_2", 4, R"("expert": 2)"},
        Case{"data_2_expert_2_zero_1", 4, R"("expert": 2, "zero_stage": 1)"},
        Case{"pipeline_2", 2, R"("pipeline": 2)", 2},
        Case{"interleaved_2", 2, R"("pipeline": 2, "virtual_pipeline": 2)", 2},
        Case{"pipeline_4", 4, R"("pipeline": 4)", 2},
        Case{"pipeline_2_uneven", 2, R"("pipeline": 2, "stage_layers": [2, 3])", 2, "", kFewSteps},
        Case{"interleaved_2_uneven", 2, R"("pipeline": 2, "virtual_pipeline": 2, "stage_layers": [1, 1, 2, 1])", 2, "",
             kFewSteps},
        Case{"data_2_pipeline_2_zero_1", 4, R"("pipeline": 2, "zero_stage": 1)", 2},
        Case{"data_2_expert_2_zero_2", 4, R"("expert": 2, "zero_stage": 2)"},
        Case{"data_2_expert_2_zero_3", 4, R"("expert": 2, "zero_stage": 3)", 1, R"(, "recompute": "full")"},
        Case{"data_2_pipeline_2_zero_2", 4, R"("pipeline": 2, "zero_stage": 2)", 2},
        Case{"data_2_pipeline_2_zero_3", 4, R"("pipeline": 2, "zero_stage": 3)", 2, R"(, "recompute": ["moe"])"},
        Case{"tensor_2_data_2_zero_3", 4, R"("tensor": 2, "sequence": true, "zero_stage": 3)", 2},
        Case{"expert_2_pipeline_2", 4, R"("pipeline": 2, "expert": 2)", 2},
        Case{"tensor_2", 2, R"("tensor": 2, "sequence": true)", 4},
        Case{"tensor_2_data_2", 4, R"("tensor": 2, "sequence": true)", 2},
        Case{"tensor_2_data_2_zero_1", 4, R"("tensor": 2, "sequence": true, "zero_stage": 1)", 2},
        Case{"tensor_2_expert_2_recomputed", 2, R"("tensor": 2, "sequence": true, "expert": 2)", 4,
             R"(, "recompute": "full")"},
        Case{"tensor_2_expert_4_zero_1", 4, R"("tensor": 2, "sequence": true, "expert": 4, "zero_stage": 1)", 2},
        Case{"tensor_2_pipeline_2", 4, R"("tensor": 2, "sequence": true, "pipeline": 2)", 4},
        Case{"tensor_2_expert_2_interleaved_2", 4,
             R"("tensor": 2, "sequence": true, "expert": 2, "pipeline": 2, "virtual_pipeline": 2)", 2},
        Case{"tensor_2_expert_2_pipeline_2", 4, R"("tensor": 2, "sequence": true, "expert": 2, "pipeline": 2)", 4},
        Case{"data_2_expert_2_pipeline_2", 8, R"("pipeline": 2, "expert": 2)"},
        Case{"expert_tensor_2", 2, R"("expert_tensor": 2)", 2},
        Case{"expert_2_expert_tensor_2_zero_1", 4, R"("expert": 2, "expert_tensor": 2, "zero_stage": 1)"},
        Case{"tensor_2_expert_tensor_2_zero_3_recomputed", 2,
             R"("tensor": 2, "sequence": true, "expert_tensor": 2, "zero_stage": 3)", 4, R"(, "recompute": "full")"},
        Case{"expert_tensor_2_pipeline_2", 4, R"("pipeline": 2, "expert_tensor": 2)", 2, R"(, "expert_saving": "all")"},
        Case{"context_2", 2, R"("context": 2, "context_kind": "alltoall")"},
        Case{"context_2_data_2_zero_1_documents_apart", 4,
             R"("context": 2, "context_kind": "alltoall", "zero_stage": 1)", 2, R"(, "reset_attention_mask": true)"},
        Case{"context_2_expert_2_zero_3_recomputed", 2,
             R"("context": 2, "context_kind": "alltoall", "expert": 2, "zero_stage": 3)", 4,
             R"(, "recompute": "full")"},
        Case{"context_2_tensor_2", 4, R"("context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": true)", 4},
        Case{"context_2_pipeline_2_zero_1", 4,
             R"("context": 2, "context_kind": "alltoall", "pipeline": 2, "zero_stage": 1)", 2},
        Case{"context_2_expert_2_interleaved_2", 4,
             R"("context": 2, "context_kind": "alltoall", "expert": 2, "pipeline": 2, "virtual_pipeline": 2)", 2,
             R"(, "recompute": ["attention"])"},
        Case{"context_4_expert_2", 4, R"("context": 4, "context_kind": "alltoall", "expert": 2)", 2, "", kFewSteps},
        Case{"context_2_data_2_zero_2", 4, R"("context": 2, "context_kind": "alltoall", "zero_stage": 2)", 2, "",
             kFewSteps},
        Case{"context_2_interleaved_2_zero_2", 4,
             R"("context": 2, "context_kind": "alltoall", "pipeline": 2, "virtual_pipeline": 2, "zero_stage": 2)", 2,
             "", kFewSteps},
        Case{"context_2_expert_2_documents_apart_recomputed", 2,
             R"("context": 2, "context_kind": "alltoall", "expert": 2)", 4,
             R"(, "reset_attention_mask": true, "recompute": ["attention"])", kFewSteps},
        Case{"context_2_expert_tensor_2_zero_3", 4,
             R"("context": 2, "context_kind": "alltoall", "expert_tensor": 2, "zero_stage": 3)", 2, "", kFewSteps},
        Case{"context_2_expert_2_expert_tensor_2_zero_1", 4,
             R"("context": 2, "context_kind": "alltoall", "expert": 2, "expert_tensor": 2, "zero_stage": 1)", 2,
             R"(, "recompute": ["moe"])", kFewSteps},
        Case{"context_2_tensor_2_expert_2_interleaved_2_documents_apart", 8,
             R"("context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": true, "expert": 2, "pipeline": 2,
                "virtual_pipeline": 2)",
             4, R"(, "reset_attention_mask": true)", kFewSteps}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace mmoe
