#pragma once
// Seconds of one micro-batch in one layer on one rank, by what takes them.

#include <array>
#include <cstddef>

namespace mmoe {

enum class TimeCause {
  kProducts,     // dense matrix products
  kExperts,      // grouped products
  kAttention,    // core attention
  kElementwise,  // norms, activations, permutation, casts, loss
  kTensor,       // transfers of tensor and sequence parallelism that are not hidden
  kContext,
  kExpert,
  kHost,  // what launching adds where it is slower than the device
  kCount
};
const char* name_of_cause(TimeCause cause);

using SecondsByCause = std::array<double, static_cast<std::size_t>(TimeCause::kCount)>;
double total(const SecondsByCause& seconds);

// One layer (or embedding, or head): forward, and backward with what is recomputed.
struct LayerSeconds {
  SecondsByCause forward{}, backward{};
  double weight_gradients = 0;  // of backward: what zero-bubble schedules may postpone
  double host = 0;              // that launching forward and backward takes
  SecondsByCause again{};       // of backward: what layers beyond training.recompute_num_layers do not recompute
  double forward_total() const { return total(forward); }
  double backward_total() const { return total(backward); }
  double step_total() const { return forward_total() + backward_total(); }
};

}  // namespace mmoe
