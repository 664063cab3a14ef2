#include "train/ops/split_tokens.h"

#include <ATen/ops/empty.h>

#include "train/ops/gemm.h"

namespace mmoe {

at::Tensor gather_tokens(const at::Tensor& own_TD, const Communicator* group) {
  if (group == nullptr) return own_TD;
  const at::Tensor all_TD = at::empty({own_TD.size(0) * group->size(), own_TD.size(1)}, own_TD.options());
  group->all_gather(all_TD, own_TD.detach()).wait();
  return all_TD;
}

at::Tensor scatter_sum(const at::Tensor& partial_TD, const Communicator* group) {
  if (group == nullptr) return partial_TD;
  const at::Tensor own_TD = at::empty({partial_TD.size(0) / group->size(), partial_TD.size(1)}, partial_TD.options());
  group->reduce_scatter(own_TD, partial_TD).wait();
  return own_TD;
}

at::Tensor add_product(const at::Tensor& residual_TD, const at::Tensor& a_TA, const at::Tensor& weight_DA,
                       const Communicator* group) {
  if (group == nullptr) return sum_with_product(residual_TD, a_TA, weight_DA.t());
  return scatter_sum(product(a_TA, weight_DA.t()), group).add_(residual_TD);
}

}  // namespace mmoe
