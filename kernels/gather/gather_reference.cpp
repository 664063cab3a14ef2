#include "kernels/gather/gather.h"

namespace mmoe::kernels {
namespace {

template <class T>
void gather(const Gather& a) {
  for (int64_t r = 0; r < a.num_rows; ++r) {
    for (int64_t d = 0; d < a.size; ++d) {
      static_cast<T*>(a.rows)[r * a.size + d] =
          a.index[r] < 0 ? store<T>(0) : static_cast<const T*>(a.x)[a.index[r] * a.size + d];
    }
  }
}

}  // namespace

void gather_reference(const Gather& args) {
  visit_scalar(args.scalar, [&](auto tag) { gather<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
