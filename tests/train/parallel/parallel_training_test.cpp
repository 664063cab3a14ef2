// Every layout trains what one process trains: the same draws, losses and weights, to the rounding of sums that are
// formed in another order.

#include <map>
#include <mutex>

#include "tests/train/parallel_testing.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

constexpr int64_t kSteps = 20;

struct Case {
  const char* name;
  int num_devices;
  const char* parallelism;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Job job_of(const std::string& hardware, const std::string& parallelism, const char* precision) {
  // Groups of MoE layers are those of pipeline 2, so that the law is the same in every layout.
  return small_job(R"({"model": {"num_layers": 4}, "hardware": {)" + hardware + R"(}, "parallelism": {)" + parallelism +
                   R"(}, "training": {"global_batch_size": 8, "micro_batch_size": 1, "learning_rate": 1e-3,
                       "precision": ")" +
                   precision + R"("},
                       "elastic": {"budget": {"kind": "at_most", "sum_k": 7, "groups": [2, 2]}}})");
}

struct Outcome {
  std::vector<StepResult> steps;
  std::map<std::string, at::Tensor> weights;
};

Outcome train(Trainer& trainer, const ProcessGroups& groups, const Job& job) {
  const int64_t samples = job.training.global_batch_size, mine = samples / job.data_parallel_size();
  Outcome outcome;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const auto part = [&](uint64_t seed) {
      return random_tokens({samples, job.training.seq_len}, job.model.vocab_size, seed)
          .narrow(0, groups.data_index() * mine, mine);
    };
    const auto seed = static_cast<uint64_t>(step % 4);
    outcome.steps.push_back(trainer.run_step(step, kSteps, part(seed), part(seed + 100), trainer.draw(step)));
  }
  for (const Parameter& parameter : trainer.transformer().parameters().all()) {
    outcome.weights[parameter.name] = parameter.master;
  }
  return outcome;
}

class ParallelTraining : public testing::TestWithParam<Case> {
 protected:
  // `bound` on relative errors.
  void compare(const char* precision, double bound) {
    const Job single = job_of(R"("num_devices": 1)", "", precision);
    Trainer alone(single, c10::kCPU);
    const Outcome expected = train(alone, no_groups(), single);
    const Job job =
        job_of(R"("num_devices": )" + std::to_string(GetParam().num_devices), GetParam().parallelism, precision);
    std::mutex mutex;
    std::map<std::string, int64_t> elements_seen;
    run_ranks(job, [&](const ProcessGroups& groups) {
      Trainer trainer(job, c10::kCPU, groups);
      const Outcome outcome = train(trainer, groups, job);
      const std::lock_guard lock(mutex);
      for (size_t i = 0; i < outcome.steps.size(); ++i) {
        EXPECT_EQ(outcome.steps[i].k_per_layer, expected.steps[i].k_per_layer);
        EXPECT_NEAR(outcome.steps[i].loss, expected.steps[i].loss, bound * expected.steps[i].loss) << "step " << i + 1;
        EXPECT_NEAR(outcome.steps[i].grad_norm, expected.steps[i].grad_norm, bound * expected.steps[i].grad_norm);
        EXPECT_NEAR(outcome.steps[i].load_balance_loss, expected.steps[i].load_balance_loss, bound);
        EXPECT_EQ(outcome.steps[i].peak_allocated_bytes_by_rank.size(), job.hardware.num_devices);
      }
      for (const Parameter& parameter : trainer.transformer().parameters().all()) {
        at::Tensor whole = expected.weights.at(parameter.name);
        for (size_t dim = 0; dim < parameter.part.ranges.size(); ++dim) {
          const IndexRange range = parameter.part.ranges[dim];
          whole = whole.narrow(static_cast<int64_t>(dim), range.begin, range.count);
        }
        EXPECT_LE(relative_error(parameter.master, whole), bound) << parameter.name << " on rank " << groups.rank;
        elements_seen[parameter.name] += parameter.master.numel();
      }
    });
    for (const auto& [name, weight] : expected.weights) EXPECT_GE(elements_seen[name], weight.numel()) << name;
  }
};

// A gradient is sums over 8 x 16 tokens through four layers of two sums of at most 96 terms, so summed in another order
// it differs by e = tolerance(type, 128 + 8 * 96, 0) of its size. Adam makes that at most 2 e of an update of 1e-3; 20
// of them against weights of spread 0.11 are 0.4 e.
double bound(at::ScalarType type) { return tolerance(type, 128 + 8 * 96, 0); }

TEST_P(ParallelTraining, IsThatOfOneProcessInFp64) { compare("fp64", bound(at::kDouble)); }

TEST_P(ParallelTraining, IsThatOfOneProcessInFp32) { compare("fp32", bound(at::kFloat)); }

INSTANTIATE_TEST_SUITE_P(, ParallelTraining,
                         testing::Values(Case{"data_2", 2, ""}, Case{"zero_1", 2, R"("zero_stage": 1)"},
                                         Case{"expert_2", 2, R"("expert": 2)"}, Case{"expert_4", 4, R"("expert": 4)"},
                                         Case{"data_2_expert_2", 4, R"("expert": 2)"},
                                         Case{"data_2_expert_2_zero_1", 4, R"("expert": 2, "zero_stage": 1)"},
                                         Case{"pipeline_2", 2, R"("pipeline": 2)"},
                                         Case{"interleaved_2", 2, R"("pipeline": 2, "virtual_pipeline": 2)"},
                                         Case{"pipeline_4", 4, R"("pipeline": 4)"},
                                         Case{"data_2_pipeline_2_zero_1", 4, R"("pipeline": 2, "zero_stage": 1)"},
                                         Case{"expert_2_pipeline_2", 4, R"("pipeline": 2, "expert": 2)"},
                                         Case{"data_2_expert_2_pipeline_2", 8, R"("pipeline": 2, "expert": 2)"}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace mmoe
