#pragma once
// Tokens that tensor parallel ranks hold equal parts of outside of attention and dense feed-forwards, in the order of
// the ranks (sequence parallelism: Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2).
// Dims: T tokens of a micro-batch, t ranks, D hidden size. A null group is this rank alone, which holds all tokens.

#include <ATen/core/Tensor.h>

#include "train/parallel/communicator.h"

namespace mmoe {

// Every rank's own tokens [T / t, D] to all tokens [T, D]; without a group x itself.
at::Tensor gather_tokens(const at::Tensor& own_TD, const Communicator* group);

// Each rank's tokens [T / t, D] of the sum over ranks of their [T, D]; without a group the tensor itself.
at::Tensor scatter_sum(const at::Tensor& partial_TD, const Communicator* group);

// residual + the sum over ranks of a_TA weight_DA^T, of this rank's tokens.
at::Tensor add_product(const at::Tensor& residual_TD, const at::Tensor& a_TA, const at::Tensor& weight_DA,
                       const Communicator* group);

}  // namespace mmoe
