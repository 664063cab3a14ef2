// mmoe-train COMMAND ...: the commands of mmoe that need LibTorch; `mmoe COMMAND ...` runs this program.

#include "sim/cli/program.h"
#include "train/cli/commands.h"
#include "train/ops/parallel.h"
#include "train/profiling/counting_allocator.h"

int main(int argc, char** argv) {
  mmoe::install_counting_allocator();
  mmoe::install_kernel_runtime();
  return static_cast<int>(mmoe::run_program("mmoe-train", mmoe::trainer_commands(), {argv + 1, argv + argc}));
}
