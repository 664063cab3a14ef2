#pragma once
// Context parallel ranks hold equal parts of a micro-batch's tokens, in the order of the ranks; in attention each holds
// all tokens of its part of the heads (all-to-all, DeepSpeed-Ulysses: Jacobs et al. 2023, arXiv:2309.14509, section 3).
// Dims: T tokens of all c ranks, N = T / c of one. Columns are blocks of heads (queries, keys, values), of each of
// which every rank takes an equal part. A null group is this rank alone: the tensor itself. The argument is gone once
// it has been sent, where the caller holds it no more.

#include <ATen/core/Tensor.h>

#include <vector>

#include "train/parallel/communicator.h"

namespace mmoe {

// [N, columns] to [T, columns / c].
at::Tensor tokens_to_heads(at::Tensor own_NX, const std::vector<int64_t>& blocks, const Communicator* context);

// [T, columns / c] to [N, columns].
at::Tensor heads_to_tokens(at::Tensor all_TX, const std::vector<int64_t>& blocks, const Communicator* context);

}  // namespace mmoe
