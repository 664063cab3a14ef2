#include "sim/cluster/layer_seconds.h"

namespace mmoe {

const char* name_of_cause(TimeCause cause) {
  static constexpr std::array kNames = {"matrix_products",
                                        "expert_products",
                                        "attention",
                                        "elementwise",
                                        "tensor_parallel_transfers",
                                        "context_parallel_transfers",
                                        "expert_parallel_transfers",
                                        "host"};
  return kNames[static_cast<std::size_t>(cause)];
}

double total(const SecondsByCause& seconds) {
  double sum = 0;
  for (const double value : seconds) sum += value;
  return sum;
}

}  // namespace mmoe
