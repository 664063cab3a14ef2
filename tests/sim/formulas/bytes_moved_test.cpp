#include "sim/formulas/bytes_moved.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(BytesMoved, GemmCountsEachOperandOnce) {
  EXPECT_EQ(gemm_bytes(3, 5, 7, 2, 4, GemmOutput::kWritten).value, (3 * 7 + 7 * 5) * 2 + 3 * 5 * 4);
  EXPECT_EQ(gemm_bytes(3, 5, 7, 2, 4, GemmOutput::kAccumulated).value, (3 * 7 + 7 * 5) * 2 + 2 * 3 * 5 * 4);
}

TEST(BytesMoved, Attention) {
  // q 8, k 4, v 4, out 8 elements a token; backward q, k, v, out, d_out, dq, dk, dv.
  EXPECT_EQ(attention_forward_bytes(10, 8, 4, 2).value, 10 * (8 + 4 + 4 + 8) * 2);
  EXPECT_EQ(attention_backward_bytes(10, 8, 4, 2).value, 10 * (8 + 4 + 4 + 8 + 8 + 8 + 4 + 4) * 2);
}

TEST(BytesMoved, AdamwReadsAndWritesItsState) {
  // Weight, first and second moment read and written, gradient read: seven fp32 passes; bf16 copy on top, or the
  // gradient written too.
  EXPECT_EQ(adamw_bytes(100, 4, 4, 0, 1).value, 2800);
  EXPECT_EQ(adamw_bytes(100, 4, 4, 2, 1).value, 3000);
  EXPECT_EQ(adamw_bytes(100, 4, 4, 0, 2).value, 3200);
}

}  // namespace
}  // namespace mmoe
