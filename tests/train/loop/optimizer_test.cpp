#include "train/loop/optimizer.h"

#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

const std::vector<ParameterSpec> kSpecs = {{"matrix", {9, 7}, WeightDecay::kOn, 0.5},
                                           {"norm", {5}, WeightDecay::kOff, 0, 1}};

at::Tensor gradient_norm(const AdamW& optimizer) { return optimizer.squared_gradient_norms().sum().sqrt(); }

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
    optimizer.update(step, rate, gradient_norm(optimizer));
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
    EXPECT_TRUE(same_bits(parameter.value, parameter.master.to(GetParam())));  // without refresh_compute_weights
  }
}

INSTANTIATE_TEST_SUITE_P(, AdamWTest, testing::Values(at::kDouble, at::kFloat, at::kBFloat16), type_name);

// The gradient as a first update uses it: the first moment is then 1 - beta1 times that.
at::Tensor clipped_gradient(const AdamW& optimizer, const TrainingConfig& training) {
  return optimizer.first_moment() / (1 - training.beta1);
}

TEST(Clipping, ScalesTheWholeGradientToTheLargestNorm) {
  TrainingConfig training;
  training.clip_norm = 2;
  for (const double size : {0.1, 10.0}) {
    ParameterStore store(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
    AdamW optimizer(store, training);
    for (const Parameter& parameter : store.all()) at::Tensor(parameter.grad).fill_(size);
    const at::Tensor norm = gradient_norm(optimizer);
    const double expected = size * std::sqrt(9.0 * 7 + 5);  // padding takes no part
    EXPECT_NEAR(norm.item<double>(), expected, 1e-14 * expected);
    optimizer.update(1, 0, norm);
    constexpr double kRounding = std::numeric_limits<float>::epsilon();  // the kernel takes its divisor as fp32
    const auto clipped = clipped_gradient(optimizer, training).norm().item<double>();
    EXPECT_NEAR(clipped, std::min(expected, 2.0), 2 * kRounding);
  }
}

TEST(Clipping, ZeroMeansNever) {
  TrainingConfig training;
  training.clip_norm = 0;
  ParameterStore store(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
  AdamW optimizer(store, training);
  at::Tensor grad = store.grad();
  grad.fill_(100);
  const at::Tensor norm = gradient_norm(optimizer);
  optimizer.update(1, 0, norm);
  EXPECT_LE(relative_error(clipped_gradient(optimizer, training), grad), tolerance(at::kDouble, 0, 4));
}

// Nothing is clipped, so dividing must not change a bit of the update.
TEST(Clipping, LeavesASmallGradientAsItIs) {
  const auto updated = [](double clip_norm) {
    TrainingConfig training;
    training.clip_norm = clip_norm;
    ParameterStore store(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
    AdamW optimizer(store, training);
    at::Tensor(store.grad()).fill_(0.3);
    optimizer.update(1, 0.1, gradient_norm(optimizer));
    return store.master();
  };
  EXPECT_TRUE(same_bits(updated(1e6), updated(0)));
}

// An infinite or undefined norm would reach every weight.
TEST(Clipping, NoUpdateWhereTheNormIsNotFinite) {
  const TrainingConfig training;
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    ParameterStore store(kSpecs, at::kFloat, c10::kCPU, 3, Gradients::kAllocated);
    AdamW optimizer(store, training);
    const at::Tensor before = store.master().clone();
    store.at("norm").grad.narrow(0, 2, 1).fill_(bad);
    optimizer.update(1, 0.1, gradient_norm(optimizer));
    EXPECT_TRUE(same_bits(store.master(), before));
    EXPECT_TRUE(optimizer.second_moment().eq(0).all().item<bool>());
  }
}

// What ranks with shares do together is what one does alone.
TEST(Shares, UpdateTheirOwnElementsOnly) {
  const TrainingConfig training;
  ParameterStore whole(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
  ParameterStore shared(kSpecs, at::kDouble, c10::kCPU, 3, Gradients::kAllocated);
  AdamW all(whole, training), first(shared, training, {{0, 32}}), second(shared, training, {{32, 80}});
  EXPECT_EQ(second.owned(), (std::vector<FlatRange>{{32, 64}, {64, 80}}));  // 63 decayed elements, padded
  const at::Tensor gradient = random_tensor({whole.grad().numel()}, at::kDouble, 5);
  at::Tensor(whole.grad()).copy_(gradient);
  at::Tensor(shared.grad()).copy_(gradient);
  const at::Tensor norm = gradient_norm(all);
  for (AdamW* optimizer : {&all, &first, &second}) optimizer->update(1, 0.1, norm);
  EXPECT_TRUE(same_bits(shared.master(), whole.master()));
}

// Frozen tensors keep every bit, whatever their gradient and the decay, have no moments and count in no norm.
TEST(Freezing, LeavesItsPartsAlone) {
  const std::vector<ParameterSpec> specs = {{"layers.0.router", {9, 7}, WeightDecay::kOn, 0.5},
                                            {"layers.0.experts.gate_up", {2, 3, 4}, WeightDecay::kOn, 0.5},
                                            {"layers.0.experts.down", {2, 4, 3}, WeightDecay::kOn, 0.5},
                                            {"layers.0.attention_norm", {5}, WeightDecay::kOff, 0, 1}};
  TrainingConfig training;
  training.freeze = {"experts"};
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    ParameterStore store(specs, type, c10::kCPU, 3, Gradients::kAllocated);
    AdamW optimizer(store, training);
    EXPECT_EQ(optimizer.owned(), (std::vector<FlatRange>{{0, 64}, {128, 144}}));
    EXPECT_EQ(optimizer.first_moment().numel(), 80);
    EXPECT_EQ(optimizer.second_moment().numel(), 80);
    const at::Tensor before = store.master().clone(), computed = store.at("layers.0.experts.down").value.clone();
    at::Tensor grad = store.grad();
    grad.fill_(1e3);
    store.at("layers.0.router").grad.fill_(3);
    store.at("layers.0.attention_norm").grad.fill_(3);
    grad.narrow(0, 63, 1).zero_();  // padding has no gradient
    grad.narrow(0, 133, 11).zero_();
    const at::Tensor norm = gradient_norm(optimizer);
    const double expected = 3 * std::sqrt(63.0 + 5);
    EXPECT_NEAR(norm.item<double>(), expected, tolerance(at::kFloat, 68, 4) * expected);
    optimizer.update(1, 0.1, norm);
    store.refresh_compute_weights();
    for (const Parameter& parameter : store.all()) {
      const at::Tensor old =
          before.narrow(0, parameter.master.storage_offset(), parameter.master.numel()).view(parameter.master.sizes());
      const bool frozen = parameter.name.find("experts") != std::string::npos;
      EXPECT_EQ(same_bits(parameter.master, old), frozen) << parameter.name;
    }
    EXPECT_TRUE(same_bits(store.at("layers.0.experts.down").value, computed));
  }
}

// A rank whose share begins or ends in a frozen tensor owns the rest of it.
TEST(Freezing, IsTakenOutOfShares) {
  TrainingConfig training;
  training.freeze = {"norms"};
  const std::vector<ParameterSpec> specs = {{"layers.0.router", {32}, WeightDecay::kOff, 0.5},
                                            {"layers.0.attention_norm", {32}, WeightDecay::kOff, 0, 1},
                                            {"output", {32}, WeightDecay::kOff, 0.5}};
  ParameterStore store(specs, at::kFloat, c10::kCPU, 3, Gradients::kAllocated);
  const auto owned = [&](FlatRange share) { return AdamW(store, training, {share}).owned(); };
  EXPECT_EQ(owned({0, 48}), (std::vector<FlatRange>{{0, 32}}));
  EXPECT_EQ(owned({48, 96}), (std::vector<FlatRange>{{64, 96}}));
  EXPECT_EQ(owned({40, 56}), std::vector<FlatRange>{});
  EXPECT_EQ(owned({0, 96}), (std::vector<FlatRange>{{0, 32}, {64, 96}}));
}

}  // namespace
}  // namespace mmoe
