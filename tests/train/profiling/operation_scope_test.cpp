#include "train/profiling/operation_scope.h"

#include <set>
#include <tuple>

#include "sim/throughput/operations.h"
#include "tests/train/trainer_testing.h"
#include "train/loop/trainer.h"
#include "train/profiling/memory_meter.h"

namespace mmoe {
namespace {

using Key = std::tuple<std::string, std::string, int, int>;  // operation, phase, layer, k

// One step of one micro-batch; its samples in the order in which the operations ended.
std::vector<OperationSample> recorded_step(const Job& job, const std::vector<int>& k) {
  Trainer trainer(job, c10::kCPU);
  const at::Tensor tokens = random_tokens({job.training.global_batch_size, job.training.seq_len}, 96, 1);
  OperationRecorder recorder(c10::kCPU);
  trainer.run_step(1, 1, tokens, tokens, {k});
  return recorder.samples;
}

std::string one_micro_batch(const std::string& more_training, const std::string& model = "{}") {
  return R"({"training": {"micro_batch_size": 4)" + more_training + R"(}, "model": )" + model + "}";
}

class RecordedOperations : public testing::TestWithParam<std::pair<const char*, std::string>> {};

// The names are a contract with the simulator, which lists the same operations with the same phase, layer and k.
TEST_P(RecordedOperations, AreThoseOfTheSimulator) {
  const Job job = small_job(GetParam().second);
  const std::vector<int> k = job.model.num_moe_layers() == 1 ? std::vector<int>{5} : std::vector<int>{2, 5};
  std::set<Key> recorded, expected;
  for (const OperationSample& s : recorded_step(job, k)) {
    recorded.emplace(s.operation, to_string(s.phase), s.place.layer, s.place.k);
  }
  for (const auto& costs : {step_operations(job, k), update_operations(job)}) {
    for (const OperationCost& cost : costs) {
      expected.emplace(operation_name(cost.operation), phase_name(cost.phase), cost.layer, cost.k);
    }
  }
  for (const auto& [operation, phase, layer, active] : recorded) {
    EXPECT_TRUE(operation_named(operation).has_value()) << operation;
    EXPECT_TRUE(phase_named(phase).has_value()) << phase;
  }
  const auto names = [](const std::set<Key>& keys) {
    std::set<std::tuple<std::string, std::string, int>> found;
    for (const Key& key : keys) found.emplace(std::get<0>(key), std::get<1>(key), std::get<2>(key));
    return found;
  };
  EXPECT_EQ(names(recorded), names(expected));
  for (const Key& key : recorded) {  // the layer's own k wherever one is given
    const auto& [operation, phase, layer, active] = key;
    if (operation != "experts" && operation != "router") continue;
    EXPECT_EQ(active, k[layer - (job.model.num_layers - job.model.num_moe_layers())]) << operation << " " << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , RecordedOperations,
    testing::Values(
        std::pair{"none", one_micro_batch("")}, std::pair{"full", one_micro_batch(R"(, "recompute": "full")")},
        std::pair{"moe", one_micro_batch(R"(, "recompute": ["moe"])", R"({"shared_expert_hidden_size": 24})")},
        std::pair{"attention", one_micro_batch(R"(, "recompute": ["attention"])")},
        std::pair{"dense_first", one_micro_batch("", R"({"num_dense_layers": 1, "dense_hidden_size": 40})")}),
    [](const auto& test) { return std::string(test.param.first); });

TEST(OperationRecorder, BytesOfEachOperationFitTheStep) {
  const Job job = small_job(one_micro_batch(R"(, "precision": "fp32")"));
  Trainer trainer(job, c10::kCPU);
  const at::Tensor tokens = random_tokens({4, 16}, 96, 1);
  trainer.run_step(1, 3, tokens, tokens, {{2, 5}});
  const int64_t start = allocated_bytes(c10::kCPU);
  const int64_t peak = trainer.run_step(2, 3, tokens, tokens, {{2, 5}}).peak_allocated_bytes;
  EXPECT_EQ(allocated_bytes(c10::kCPU), start) << "a step leaves nothing behind";

  OperationRecorder recorder(c10::kCPU);
  trainer.run_step(3, 3, tokens, tokens, {{2, 5}});
  int64_t forward_kept = 0, highest = 0;
  for (const OperationSample& sample : recorder.samples) {
    EXPECT_GE(sample.transient_bytes, std::max<int64_t>(0, sample.kept_bytes)) << sample.operation;
    EXPECT_GE(sample.seconds, 0);
    highest = std::max(highest, sample.transient_bytes);
    if (sample.phase == OperationPhase::kUpdate) {
      // The squared norms stay on the device, one fp32 number for each group of parameters; the update is in place.
      EXPECT_EQ(sample.kept_bytes, sample.operation == "gradient_norm" ? 4 * kNumParameterGroups : 0)
          << sample.operation;
    }
    if (sample.phase == OperationPhase::kForward) forward_kept += sample.kept_bytes;
    // The gradients of the 64 tokens' inputs and of their k weights; what the forward pass kept is freed behind the
    // scope.
    if (sample.phase == OperationPhase::kBackward && sample.operation == "experts") {
      EXPECT_EQ(sample.kept_bytes, 64 * (32 + sample.place.k) * 4);
    }
  }
  // What the forward pass keeps is alive when the backward pass begins, beside the step's tokens and losses; the last
  // norm's result is not.
  const int64_t tokens_count = 64, result = tokens_count * 32 * 4;
  EXPECT_GE(peak - start, forward_kept - result);
  EXPECT_GE(peak - start, highest);
}

TEST(OperationRecorder, CountsWhatAScopeKeepsAndWhatItOnlyUses) {
  OperationRecorder recorder(c10::kCPU);
  at::Tensor kept;
  {
    const OperationScope scope("norm", OperationPhase::kForward, {3, 2});
    const at::Tensor passing = random_tensor({100}, at::kDouble, 1);
    kept = at::empty({25}, at::TensorOptions().dtype(at::kDouble));
  }
  {
    const RecomputeMark mark;
    const OperationScope again("norm", OperationPhase::kForward, {3, 2});
  }
  { const OperationScope backward("norm", OperationPhase::kBackward, {3, 2}); }
  ASSERT_EQ(recorder.samples.size(), 3U);
  EXPECT_EQ(recorder.samples[0].kept_bytes, 200);
  EXPECT_EQ(recorder.samples[0].transient_bytes, 1000);
  EXPECT_EQ(recorder.samples[0].place.layer, 3);
  EXPECT_EQ(recorder.samples[0].place.k, 2);
  EXPECT_EQ(recorder.samples[1].phase, OperationPhase::kRecompute);
  EXPECT_EQ(recorder.samples[2].phase, OperationPhase::kBackward);
  EXPECT_EQ(recorder.samples[2].transient_bytes, 0);
}

TEST(OperationRecorder, OneAtATimeAndNothingWithout) {
  { const OperationScope unrecorded("norm", OperationPhase::kForward, {}); }
  const OperationRecorder recorder(c10::kCPU);
  EXPECT_TRUE(recorder.samples.empty());
  EXPECT_THROW(OperationRecorder(c10::kCPU), std::logic_error);
  { const OperationScope scope("norm", OperationPhase::kForward, {}); }
  EXPECT_EQ(recorder.samples.size(), 1U) << "the refused one did not replace it";
}

}  // namespace
}  // namespace mmoe
