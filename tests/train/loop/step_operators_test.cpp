// Every ATen operator of a training step on the CPU, looked up in LibTorch's dispatcher: it runs on CUDA too, copies
// nothing to the host and makes no tensor whose size depends on data.

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/masked_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/train/cpu_products_guard.h"
#include "tests/train/trainer_testing.h"
#include "train/data/batches.h"
#include "train/loop/trainer.h"

namespace mmoe {
namespace {

std::optional<c10::OperatorHandle> find_operator(const c10::OperatorName& name) {
  return c10::Dispatcher::singleton().findSchema(name);
}

bool has_cuda_kernel(const c10::OperatorName& name) {
  const auto op = find_operator(name);
  return op && op->hasKernelForDispatchKey(c10::DispatchKey::CUDA);
}

// By a kernel of its own, or composed of other operators.
bool runs_on_cuda(const c10::OperatorName& name) {
  const auto op = find_operator(name);
  if (!op) return false;
  for (const auto key :
       {c10::DispatchKey::CompositeExplicitAutograd, c10::DispatchKey::CompositeExplicitAutogradNonFunctional,
        c10::DispatchKey::CompositeImplicitAutograd}) {
    if (op->hasKernelForDispatchKey(key)) return true;
  }
  return has_cuda_kernel(name);
}

struct ByName {
  bool operator()(const c10::OperatorName& a, const c10::OperatorName& b) const {
    return std::tie(a.name, a.overload_name) < std::tie(b.name, b.overload_name);
  }
};

// Operators that all threads call while it lives. Left out is what runs inside a kernel of the CPU whose operator has a
// kernel of its own for CUDA, which never comes here. One at a time.
class OperatorRecorder {
 public:
  OperatorRecorder() {
    calls.clear();
    num_moves = 0;
    handle_ = at::addGlobalCallback(at::RecordFunctionCallback(&OperatorRecorder::begin, &OperatorRecorder::end)
                                        .needsInputs(true)
                                        .scopes({at::RecordScope::FUNCTION}));
  }
  ~OperatorRecorder() { at::removeCallback(handle_); }
  OperatorRecorder(const OperatorRecorder&) = delete;
  OperatorRecorder& operator=(const OperatorRecorder&) = delete;

  inline static std::map<c10::OperatorName, int64_t, ByName> calls;  // number of calls; valid after its life too
  inline static int64_t num_moves = 0;  // calls of aten::to that name a device: each copies to or from the GPU

 private:
  struct Context : at::ObserverContext {
    bool is_kernel = false;
  };

  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    auto context = std::make_unique<Context>();
    const auto name = function.operator_name();
    if (!name) return context;  // no operator, but a scope such as a node of the backward pass
    if (kernels_entered == 0) {
      const std::scoped_lock lock(mutex);
      ++calls[*name];
      if (name->name == "aten::to") {
        const auto device = find_operator(*name)->schema().argumentIndexWithName("device");
        if (device && !function.inputs().at(static_cast<size_t>(*device)).isNone()) ++num_moves;
      }
    }
    context->is_kernel = has_cuda_kernel(*name);
    if (context->is_kernel) ++kernels_entered;
    return context;
  }
  static void end(const at::RecordFunction&, at::ObserverContext* context) {
    if (static_cast<Context*>(context)->is_kernel) --kernels_entered;
  }

  inline static std::mutex mutex;
  inline static thread_local int kernels_entered = 0;
  at::CallbackHandle handle_ = 0;
};

// Whether its result on the host, or its result's size, depends on what a tensor holds: LibTorch's own tags, which the
// operators that others are composed of carry (item calls _local_scalar_dense, indexing by a mask nonzero).
bool waits_for_data(const c10::OperatorName& name) {
  const auto op = find_operator(name);
  return op && (op->hasTag(at::Tag::data_dependent_output) || op->hasTag(at::Tag::dynamic_output_shape));
}

// LibTorch's attention is one operator on every device and calls these on its own; on CUDA it calls one of the others.
const std::map<std::string, std::vector<std::string>> kOfDevice = {
    {"aten::_scaled_dot_product_flash_attention_for_cpu",
     {"aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_efficient_attention"}},
    {"aten::_scaled_dot_product_flash_attention_for_cpu_backward",
     {"aten::_scaled_dot_product_flash_attention_backward", "aten::_scaled_dot_product_efficient_attention_backward"}},
};

// Operators that train/ops and train/loop call on CUDA alone.
const std::vector<c10::OperatorName> kOnCudaAlone = {
    {"aten::_grouped_mm", ""}, {"aten::_fused_adamw_", ""}, {"aten::linalg_vector_norm", ""}, {"aten::square", ""}};

bool cuda_kernels_registered() { return has_cuda_kernel({"aten::mm", ""}); }

struct JobCase {
  const char* name;
  const char* patch;
  int64_t num_host_reads = 0;  // of tensors that stay on the host on every device
};

// With products and attention by LibTorch, as on CUDA.
class StepOperators : public testing::TestWithParam<JobCase> {
 protected:
  void SetUp() override { cpu_bf16_products() = cpu_fp32_products() = cpu_attention() = CpuProducts::kLibrary; }
  const CpuProductsGuard guard;
};

TEST_P(StepOperators, RunOnCudaAndNeverWaitForData) {
  if (!cuda_kernels_registered()) GTEST_SKIP() << "this LibTorch is built without CUDA";
  const Job job = small_job(GetParam().patch);
  Trainer trainer(job, c10::kCPU);
  const auto shape = std::vector<int64_t>{job.training.global_batch_size, job.training.seq_len};
  const at::Tensor tokens = random_tokens(shape, job.model.vocab_size, 1);
  const at::Tensor targets = random_tokens(shape, job.model.vocab_size, 2);
  if (job.training.reset_attention_mask) targets[0][shape[1] / 3].fill_(kNoTarget);  // a document ends there
  {
    const OperatorRecorder recorder;
    trainer.run_step(1, 1, tokens, targets, trainer.draw(1));
  }
  ASSERT_TRUE(OperatorRecorder::calls.contains({"aten::mm", "out"}) ||
              OperatorRecorder::calls.contains({"aten::mm", ""}));
  ASSERT_TRUE(OperatorRecorder::calls.contains({"aten::isfinite", ""}));  // the optimizer's
  if (GetParam().num_host_reads > 0) {
    ASSERT_TRUE(OperatorRecorder::calls.contains({"aten::item", ""}));
  }
  ASSERT_TRUE(OperatorRecorder::calls.contains({"aten::scaled_dot_product_attention", ""}));
  for (const auto& [name, count] : OperatorRecorder::calls) {
    if (name.name == "aten::item" || name.name == "aten::_local_scalar_dense") {
      EXPECT_EQ(count, GetParam().num_host_reads) << name;
    } else {
      EXPECT_FALSE(waits_for_data(name)) << name << ", called " << count << " times";
    }
    const auto found = kOfDevice.find(name.name);
    if (found == kOfDevice.end()) {
      EXPECT_TRUE(runs_on_cuda(name)) << name << ", called " << count << " times";
    } else {
      for (const std::string& other : found->second) {
        EXPECT_TRUE(runs_on_cuda({other, ""})) << other;
        EXPECT_FALSE(waits_for_data({other, ""})) << other;
      }
    }
  }
  // Tokens and targets of each micro-batch to the device, and the step's report back at its end.
  EXPECT_EQ(OperatorRecorder::num_moves, 2 * job.num_micro_batches() + 1);
}

constexpr JobCase kJobs[] = {
    {"fp32", R"({"training": {"precision": "fp32"}})"},
    {"fp64", R"({})"},
    {"bf16", R"({"training": {"precision": "bf16"}})"},
    {"one_k", R"({"training": {"precision": "fp32"}, "elastic": {"k_min": 2, "k_max": 2}})"},
    {"k_per_micro_batch", R"({"training": {"precision": "bf16"}, "elastic": {"granularity": "micro_batch"}})"},
    {"renormalised_gates_and_norms",
     R"({"training": {"precision": "fp32"}, "model": {"qk_norm": "full", "gate_normalization": "selected"}})"},
    {"norms_of_heads", R"({"training": {"precision": "bf16"}, "model": {"qk_norm": "per_head", "num_kv_heads": 2}})"},
    {"shared_expert_and_dense_layer",
     R"({"training": {"precision": "fp32"},
         "model": {"shared_expert_hidden_size": 16, "shared_expert_gate": true, "num_dense_layers": 1,
                   "dense_hidden_size": 48, "qkv_bias": true}})"},
    {"shared_expert_bf16",
     R"({"training": {"precision": "bf16"}, "model": {"shared_expert_hidden_size": 16, "tie_embeddings": true}})"},
    {"all_recomputed", R"({"training": {"precision": "bf16", "recompute": "full"}})"},
    {"experts_recomputed", R"({"training": {"precision": "fp32", "recompute": ["moe"]}})"},
    {"attention_recomputed", R"({"training": {"precision": "fp32", "recompute": ["attention"]}})"},
    // The number of targets, counted in the batch before it goes to the device.
    {"documents_kept_apart", R"({"training": {"precision": "bf16", "reset_attention_mask": true}})", 1},
    {"no_clipping_no_auxiliary_losses",
     R"({"training": {"precision": "fp32", "clip_norm": 0, "load_balance_coefficient": 0, "z_loss_coefficient": 0}})"},
};
INSTANTIATE_TEST_SUITE_P(, StepOperators, testing::ValuesIn(kJobs),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(StepOperatorsOnCuda, HaveKernels) {
  if (!cuda_kernels_registered()) GTEST_SKIP() << "this LibTorch is built without CUDA";
  for (const c10::OperatorName& name : kOnCudaAlone) {
    EXPECT_TRUE(runs_on_cuda(name)) << name;
    EXPECT_FALSE(waits_for_data(name)) << name;
  }
}

// The lookups tell operators apart, and the recorder sees what waits, however it is called.
TEST(OperatorRecorder, FindsWhatWaitsAndWhatTheCpuAloneHas) {
  EXPECT_FALSE(runs_on_cuda({"aten::_scaled_dot_product_flash_attention_for_cpu", ""}));
  EXPECT_FALSE(runs_on_cuda({"aten::no_such_operator", ""}));
  const at::Tensor values = random_tensor({4, 4}, at::kFloat, 1);
  const auto waits = [](const auto& work) {
    {
      const OperatorRecorder recorder;
      work();
    }
    for (const auto& [name, count] : OperatorRecorder::calls) {
      if (waits_for_data(name)) return true;
    }
    return false;
  };
  EXPECT_TRUE(waits([&] { values[0][0].item<float>(); }));
  EXPECT_TRUE(waits([&] { values.nonzero(); }));
  EXPECT_TRUE(waits([&] { values.equal(values); }));
  EXPECT_TRUE(waits([&] { values.masked_select(values > 0); }));
  EXPECT_TRUE(waits([&] { values.index({values > 0}); }));
  EXPECT_TRUE(waits([&] { values.repeat_interleave(at::ones({4}, at::kLong), 0); }));
  EXPECT_TRUE(waits([&] { (void)values.sum().is_nonzero(); }));
  EXPECT_FALSE(waits([&] { at::mm(values, values); }));
  {
    const OperatorRecorder recorder;
    values.cpu();
    values.to(at::kDouble);
  }
  EXPECT_EQ(OperatorRecorder::num_moves, 1);
}

}  // namespace
}  // namespace mmoe
