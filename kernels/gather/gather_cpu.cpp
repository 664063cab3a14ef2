#include <cstring>

#include "kernels/gather/gather.h"
#include "kernels/parallel/parallel.h"

namespace mmoe::kernels {

void gather_cpu(const Gather& args) {
  const size_t row_size = static_cast<size_t>(args.size) * size_of(args.scalar);
  const char* x = static_cast<const char*>(args.x);
  char* rows = static_cast<char*>(args.rows);
  parallel_for(0, args.num_rows, rows_grain(2 * static_cast<int64_t>(row_size)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      char* row = rows + static_cast<size_t>(r) * row_size;
      if (args.index[r] < 0) {
        std::memset(row, 0, row_size);
      } else {
        std::memcpy(row, x + static_cast<size_t>(args.index[r]) * row_size, row_size);
      }
    }
  });
}

}  // namespace mmoe::kernels
