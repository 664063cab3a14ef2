#include "sim/formulas/bytes_moved.h"

namespace mmoe {

Bytes gemm_bytes(double m, double n, double k, double input_element, double output_element, GemmOutput output) {
  const double output_passes = output == GemmOutput::kAccumulated ? 2 : 1;
  return Bytes{(m * k + k * n) * input_element + output_passes * m * n * output_element};
}

Bytes attention_forward_bytes(double tokens, double query_size, double kv_size, double element) {
  return Bytes{tokens * (2 * query_size + 2 * kv_size) * element};
}

Bytes attention_backward_bytes(double tokens, double query_size, double kv_size, double element) {
  return Bytes{tokens * (4 * query_size + 4 * kv_size) * element};
}

Bytes adamw_bytes(double parameters, double master_element, double moment_element, double copy_element,
                  double gradient_passes) {
  return Bytes{parameters * ((2 + gradient_passes) * master_element + 4 * moment_element + copy_element)};
}

}  // namespace mmoe
