#include "train/checkpoint/tensor_elements.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

at::Tensor written(const at::Tensor& tensor, at::ScalarType type) {
  const at::Tensor result = at::empty(tensor.sizes(), tensor.options().dtype(type));
  size_t filled = 0;
  write_elements(tensor, type, [&](const void* data, size_t bytes) {
    std::memcpy(static_cast<char*>(result.data_ptr()) + filled, data, bytes);
    filled += bytes;
  });
  EXPECT_EQ(filled, static_cast<size_t>(result.nbytes()));
  return result;
}

TEST(TensorElements, AreConvertedInPiecesAsInOne) {
  const at::Tensor x = random_tensor({2100, 1000}, at::kFloat, 1);  // more than one piece
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    EXPECT_TRUE(same_bits(written(x, type), x.to(type)));
    EXPECT_TRUE(same_bits(written(x.narrow(1, 10, 20), type), x.narrow(1, 10, 20).to(type).contiguous()));
  }
  EXPECT_TRUE(same_bits(written(x[0], at::kBFloat16), x[0].to(at::kBFloat16)));
  EXPECT_EQ(written(x.narrow(0, 0, 0), at::kFloat).numel(), 0);
}

TEST(TensorElements, OfUnalignedBytesAreCopied) {
  const at::Tensor x = random_tensor({3, 5}, at::kFloat, 2);
  std::vector<std::byte> bytes(x.nbytes() + 1);
  std::memcpy(bytes.data() + 1, x.data_ptr(), x.nbytes());
  SafetensorsView view{SafetensorsDtype::kF32, {3, 5}, bytes.data() + 1, x.nbytes()};
  if (view.is_aligned()) view.data = static_cast<const std::byte*>(x.data_ptr());
  EXPECT_TRUE(same_bits(stored_tensor(view), x));
}

TEST(TensorElements, TypesHaveTheirNames) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    EXPECT_EQ(scalar_type(safetensors_dtype(type)), type);
  }
}

}  // namespace
}  // namespace mmoe
