// A checkpoint written under one layout loads under another, bit for bit in weights and moments.

#include "tests/train/checkpoint/checkpoint_testing.h"
#include "tests/train/parallel_testing.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

struct Layout {
  const char* name;
  int num_devices;
  const char* parallelism;
};

constexpr Layout kLayouts[] = {
    {"one", 1, ""},
    {"data_2", 2, ""},
    {"zero_1", 4, R"("zero_stage": 1)"},
    {"expert_4", 4, R"("expert": 4)"},
    {"tensor_2_expert_2", 2, R"("tensor": 2, "sequence": true, "expert": 2)"},
    {"tensor_2_zero_1", 4, R"("tensor": 2, "sequence": true, "zero_stage": 1)"},
    {"expert_2_expert_tensor_2", 4, R"("expert": 2, "expert_tensor": 2)"},
    {"context_2_expert_2_zero_1", 4, R"("context": 2, "context_kind": "alltoall", "expert": 2, "zero_stage": 1)"},
    {"expert_2_zero_3", 4, R"("expert": 2, "zero_stage": 3)"},
    {"pipeline_2_zero_2", 4, R"("pipeline": 2, "zero_stage": 2)"},
    {"interleaved_expert_2_zero_1", 4, R"("pipeline": 2, "virtual_pipeline": 2, "expert": 2, "zero_stage": 1)"},
};

Job job_of(const Layout& layout, const char* precision) {
  // One layer of each kind: all tensors that tensor parallelism splits.
  return small_job(R"({"model": {"num_layers": 4, "num_dense_layers": 1, "dense_hidden_size": 24,
                                 "shared_expert_hidden_size": 8, "num_kv_heads": 2, "qk_norm": "full", "qkv_bias": true}, "hardware": {"num_devices": )" +
                   std::to_string(layout.num_devices) + R"(}, "parallelism": {)" + layout.parallelism +
                   R"(}, "training": {"global_batch_size": 8, "micro_batch_size": 1, "precision": ")" + precision +
                   R"("}})");
}

class Resharding : public FolderTest, public testing::WithParamInterface<const char*> {
 protected:
  // Every rank of the layout runs `prepare`, then writes its part of the checkpoint at `folder`.
  static void write(const Job& job, const std::filesystem::path& folder,
                    const std::function<void(Trainer&, const ProcessGroups&)>& prepare) {
    CheckpointWriter writer(folder);
    run_ranks(job, [&](const ProcessGroups& groups) {
      Trainer trainer(job, c10::kCPU, groups);
      prepare(trainer, groups);
      write_checkpoint_part(staging_folder(folder), trainer.transformer().parameters(), trainer.optimizer(),
                            trainer.gradient_sync().written(), groups.rank, groups.world_size);
    });
    writer.commit(checkpoint_state(job, 1, nlohmann::json::object()));
  }

  // All of a checkpoint in one process.
  static std::vector<at::Tensor> contents(const std::filesystem::path& folder, const char* precision) {
    Trainer trainer(job_of(kLayouts[0], precision), c10::kCPU);
    load_weights(folder, trainer.transformer().parameters());
    load_optimizer(folder, trainer.transformer().parameters(), trainer.optimizer());
    return {trainer.transformer().parameters().master(), trainer.optimizer().first_moment(),
            trainer.optimizer().second_moment()};
  }
};

TEST_P(Resharding, EveryLayoutReadsWhatEveryOtherWrote) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.name);
    const Job job = job_of(layout, GetParam());
    const std::filesystem::path first = checkpoint_folder(folder_, 1), second = checkpoint_folder(folder_, 2);
    const int64_t samples = 8 / job.data_parallel_size();
    write(job, first, [&](Trainer& trainer, const ProcessGroups& groups) {
      const at::Tensor tokens = random_tokens({8, 16}, 96, 1).narrow(0, groups.data_index() * samples, samples);
      trainer.run_step(1, 4, tokens, tokens, std::vector(8, std::vector<int>{2, 5, 1}));
    });
    const std::vector<at::Tensor> written = contents(first, GetParam());
    EXPECT_GT(written[1].abs().max().item<double>(), 0) << "moments of a step";
    for (const Layout& other : kLayouts) {
      SCOPED_TRACE(other.name);
      write(job_of(other, GetParam()), second, [&](Trainer& trainer, const ProcessGroups&) {
        load_weights(first, trainer.transformer().parameters());
        load_optimizer(first, trainer.transformer().parameters(), trainer.optimizer());
      });
      const std::vector<at::Tensor> again = contents(second, GetParam());
      for (size_t i = 0; i < written.size(); ++i) EXPECT_TRUE(same_bits(again[i], written[i])) << i;
    }
  }
}

TEST_P(Resharding, APieceThatIsMissingIsNoticed) {
  const std::filesystem::path folder = checkpoint_folder(folder_, 1);
  write(job_of(kLayouts[3], GetParam()), folder, [](Trainer&, const ProcessGroups&) {});
  std::filesystem::remove(folder / "optimizer-00002.safetensors");
  EXPECT_NE(config_error([&] { read_checkpoint_state(folder); }).find("optimizer-00002"), std::string::npos);
  const std::string message = config_error([&] { contents(folder, GetParam()); });
  EXPECT_NE(message.find("is not whole"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(, Resharding, testing::Values("fp64", "bf16"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace mmoe
