#include "train/loop/optimizer.h"

#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

const std::vector<ParameterSpec> kSpecs = {{"matrix", {9, 7}, WeightDecay::kOn, 0.5},
                                           {"norm", {5}, WeightDecay::kOff, 0, 1}};

// One tensor's update as AdamW is defined (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2), in fp64.
struct PlainAdamW {
  at::Tensor value, first, second;
  void update(const at::Tensor& gradient, const TrainingConfig& t, double decay, double rate, int64_t step) {
    first = first * t.beta1 + gradient * (1 - t.beta1);
    second = second * t.beta2 + gradient.pow(2) * (1 - t.beta2);
    const at::Tensor corrected_first = first / (1 - std::pow(t.beta1, step));
    const at::Tensor corrected_second = second / (1 - std::pow(t.beta2, step));
    value = value - value * (rate * decay) - corrected_first / (corrected_second.sqrt() + 1e-8) * rate;
  }
};

class AdamWTest : public testing::TestWithParam<at::ScalarType> {};

TEST_P(AdamWTest, FollowsItsDefinitionOverManySteps) {
  TrainingConfig training;
  training.weight_decay = 0.3;
  training.clip_norm = 0;
  ParameterStore store(kSpecs, GetParam(), c10::kCPU, 3, Gradients::kAllocated);
  AdamW optimizer(store, training);
  std::map<std::string, PlainAdamW> plain;
  for (const Parameter& parameter : store.all()) {
    const at::Tensor value = parameter.master.to(at::kDouble).clone();
    plain[parameter.name] = {value, value * 0, value * 0};
  }
  constexpr int64_t kSteps = 20;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const double rate = 0.02 / static_cast<double>(step);
    for (const Parameter& parameter : store.all()) {
      const at::Tensor gradient =
          random_tensor(parameter.grad.sizes(), parameter.grad.scalar_type(), 50 * step + parameter.name.size());
      at::Tensor(parameter.grad).copy_(gradient);
      const double decay = parameter.decay == WeightDecay::kOn ? training.weight_decay : 0;
      plain[parameter.name].update(gradient.to(at::kDouble), training, decay, rate, step);
    }
    optimizer.update(step, rate, optimizer.gradient_norm());
  }
  for (const Parameter& parameter : store.all()) {
    // Some eight roundings a step, of the moments and of the value.
    const double bound = tolerance(accumulate_type(GetParam()), 0, 8 * kSteps);
    EXPECT_LE(relative_error(parameter.master, plain[parameter.name].value), bound) << parameter.name;
    const auto view = [&](const at::Tensor& flat) {
      return flat.narrow(0, parameter.master.storage_offset(), parameter.master.numel()).view(parameter.master.sizes());
    };
    EXPECT_LE(relative_error(view(optimizer.first_moment()), plain[parameter.name].first), bound);
    EXPECT_LE(relative_error(view(optimizer.second_moment()), plain[parameter.name].second), bound);
    EXPECT_TRUE(same_bits(parameter.value, parameter.master.to(GetParam())));
  }
}

INSTANTIATE_TEST_SUITE_P(, AdamWTest, testing::Values(at::kDouble, at::kFloat, at::kBFloat16), type_name);

TEST(Clipping, ScalesTheWholeGradientToTheLargestNorm) {
  TrainingConfig training;
  training.clip_norm = 2;
  ParameterStore store(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
  AdamW optimizer(store, training);
  for (const double size : {0.1, 10.0}) {
    for (const Parameter& parameter : store.all()) at::Tensor(parameter.grad).fill_(size);
    const double norm = optimizer.gradient_norm();
    EXPECT_NEAR(norm, size * std::sqrt(9.0 * 7 + 5), 1e-14 * norm);  // padding takes no part
    optimizer.update(1, 0, norm);
    EXPECT_NEAR(optimizer.gradient_norm(), std::min(norm, 2.0), 1e-14);
  }
}

TEST(Clipping, ZeroMeansNever) {
  TrainingConfig training;
  training.clip_norm = 0;
  ParameterStore store(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
  AdamW optimizer(store, training);
  at::Tensor grad = store.grad();
  grad.fill_(100);
  const double norm = optimizer.gradient_norm();
  optimizer.update(1, 0, norm);
  EXPECT_EQ(optimizer.gradient_norm(), norm);
}

}  // namespace
}  // namespace mmoe
