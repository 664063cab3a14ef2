#include "train/checkpoint/model_checkpoint.h"

#include "tests/train/checkpoint/checkpoint_testing.h"
#include "tests/train/trainer_testing.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

class ModelCheckpoint : public FolderTest, public testing::WithParamInterface<const char*> {
 protected:
  static Job job(const std::string& model = "{}", const char* precision = "fp32") {
    return small_job(R"({"model": )" + model + R"(, "training": {"precision": ")" + precision + "\"}}");
  }
  // A checkpoint of step 2 of a short run.
  std::filesystem::path save(Trainer& trainer) const {
    const at::Tensor tokens = random_tokens({4, 16}, 96, 1);
    for (int64_t step = 1; step <= 2; ++step) trainer.run_step(step, 9, tokens, tokens, {{2, 5}, {1, 3}});
    return save_checkpoint(folder_, trainer.job(), 2, trainer.transformer().parameters(), trainer.optimizer(),
                           {{"total_steps", 9}});
  }
};

TEST_P(ModelCheckpoint, GivesBackEveryBit) {
  const Job given = job(R"({"qk_norm": "full", "shared_expert_hidden_size": 24})", GetParam());
  Trainer trainer(given, c10::kCPU);
  const std::filesystem::path folder = save(trainer);
  EXPECT_EQ(folder, checkpoint_folder(folder_, 2));
  const nlohmann::json state = read_checkpoint_state(folder);
  EXPECT_EQ(state.at("step"), 2);
  EXPECT_EQ(state.at("total_steps"), 9);
  EXPECT_EQ(to_json(checkpoint_job(folder)), to_json(given));
  EXPECT_EQ(checkpoint_job(folder, {{"training.seq_len", "8"}}).training.seq_len, 8);

  Job other = given;
  other.training.seed = 1234;
  Trainer loaded(other, c10::kCPU);
  EXPECT_FALSE(same_bits(loaded.transformer().parameters().master(), trainer.transformer().parameters().master()));
  load_weights(folder, loaded.transformer().parameters());
  load_optimizer(folder, loaded.transformer().parameters(), loaded.optimizer());
  EXPECT_TRUE(same_bits(loaded.transformer().parameters().master(), trainer.transformer().parameters().master()));
  EXPECT_TRUE(same_bits(loaded.optimizer().first_moment(), trainer.optimizer().first_moment()));
  EXPECT_TRUE(same_bits(loaded.optimizer().second_moment(), trainer.optimizer().second_moment()));
  for (const Parameter& parameter : loaded.transformer().parameters().all()) {  // what the next step computes with
    EXPECT_TRUE(same_bits(parameter.value, trainer.transformer().parameters().at(parameter.name).value));
  }
  // The next step of both is the same, bit for bit.
  const at::Tensor tokens = random_tokens({4, 16}, 96, 3);
  EXPECT_EQ(loaded.run_step(3, 9, tokens, tokens, {{2, 5}, {1, 3}}).loss,
            trainer.run_step(3, 9, tokens, tokens, {{2, 5}, {1, 3}}).loss);
  EXPECT_TRUE(same_bits(loaded.transformer().parameters().master(), trainer.transformer().parameters().master()));
}

INSTANTIATE_TEST_SUITE_P(, ModelCheckpoint, testing::Values("fp64", "fp32", "bf16"),
                         [](const auto& test) { return std::string(test.param); });

using RefusedCheckpoint = ModelCheckpoint;

TEST_F(RefusedCheckpoint, AnotherShapeNamesTheTensor) {
  Trainer trainer(job(), c10::kCPU);
  const std::filesystem::path folder = save(trainer);
  Transformer wider(job(R"({"expert_hidden_size": 24})"), c10::kCPU, Gradients::kNone);
  const std::string message = config_error([&] { load_weights(folder, wider.parameters()); });
  EXPECT_NE(message.find("weights.safetensors"), std::string::npos) << message;
  EXPECT_NE(message.find("layers.0.experts.gate_up"), std::string::npos) << message;
  EXPECT_NE(message.find("shape"), std::string::npos) << message;
}

TEST_F(RefusedCheckpoint, AnotherTypeNamesTheTensor) {
  Trainer trainer(job(), c10::kCPU);
  const std::filesystem::path folder = save(trainer);
  Transformer doubles(job("{}", "fp64"), c10::kCPU, Gradients::kNone);
  const std::string message = config_error([&] { load_weights(folder, doubles.parameters()); });
  EXPECT_NE(message.find("tensor embedding"), std::string::npos) << message;
}

TEST_F(RefusedCheckpoint, AMissingTensorIsNamed) {
  Trainer trainer(job(), c10::kCPU);
  const std::filesystem::path folder = save(trainer);
  Trainer with_norms(job(R"({"qk_norm": "full"})"), c10::kCPU);
  const auto& parameters = with_norms.transformer().parameters();
  for (const std::string& message :
       {config_error([&] { load_weights(folder, with_norms.transformer().parameters()); }),
        config_error([&] { load_optimizer(folder, parameters, with_norms.optimizer()); })}) {
    EXPECT_NE(message.find("attention.query_norm"), std::string::npos) << message;
  }
}

TEST_F(RefusedCheckpoint, ATruncatedFileIsNamed) {
  Trainer trainer(job(), c10::kCPU);
  const std::filesystem::path folder = save(trainer);
  for (const char* name : {"weights.safetensors", "optimizer.safetensors"}) {
    const std::filesystem::path path = folder / name;
    const auto size = std::filesystem::file_size(path);
    const std::string bytes = read_bytes(path);
    std::filesystem::resize_file(path, size - 100);
    const std::string state = config_error([&] { checkpoint_job(folder); });
    EXPECT_NE(state.find(name), std::string::npos) << state;
    const std::string loaded = config_error([&] {
      load_weights(folder, trainer.transformer().parameters());
      load_optimizer(folder, trainer.transformer().parameters(), trainer.optimizer());
    });
    EXPECT_NE(loaded.find(name), std::string::npos) << loaded;
    write(std::filesystem::relative(path, folder_), bytes);
  }
  EXPECT_NO_THROW(checkpoint_job(folder));
}

TEST_F(RefusedCheckpoint, AFolderThatIsNone) {
  const std::string message = config_error([&] { checkpoint_job(folder_); });
  EXPECT_NE(message.find(folder_.string()), std::string::npos) << message;
}

}  // namespace
}  // namespace mmoe
