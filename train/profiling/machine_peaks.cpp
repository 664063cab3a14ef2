#include "train/profiling/machine_peaks.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#ifdef MMOE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "sim/cli/version.h"
#include "sim/config/enum_names.h"
#include "train/model/transformer.h"

namespace mmoe {
namespace {

// Least seconds of five runs after one to warm up: a peak is what is reached when nothing disturbs.
template <class Work>
double least_seconds(c10::Device device, const Work& work) {
  const auto synchronize = [&] {
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  };
  double least = 1e30;
  for (int run = 0; run < 6; ++run) {
    synchronize();
    const auto start = std::chrono::steady_clock::now();
    work();
    synchronize();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (run > 0) least = std::min(least, elapsed.count());
  }
  return least;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

MachinePeaks measure_machine_peaks(const Job& job, c10::Device device) {
  MachinePeaks peaks;
  const auto options = at::TensorOptions().device(device);
  {
    const int64_t elements = device.is_cpu() ? int64_t{1} << 24 : int64_t{1} << 28;
    const at::Tensor source = at::ones({elements}, options.dtype(at::kFloat));
    at::Tensor destination = at::ones({elements}, options.dtype(at::kFloat));
    const double seconds = least_seconds(device, [&] { destination.copy_(source); });
    peaks.stream_bandwidth = BytesPerSecond{8.0 * static_cast<double>(elements) / seconds};
  }
  for (const Precision precision : {Precision::kFp32, job.training.precision}) {
    const std::string name(name_of(precision));
    if (peaks.matmul_rate.count(name) > 0) continue;
    const int64_t size = device.is_cpu() ? 1024 : 8192;
    const at::Tensor a = at::ones({size, size}, options.dtype(compute_type(precision)));
    at::Tensor product = at::empty_like(a);
    const double seconds = least_seconds(device, [&] { at::mm_out(product, a, a); });
    peaks.matmul_rate[name] = FlopsPerSecond{2.0 * static_cast<double>(size * size * size) / seconds};
  }
  return peaks;
}

ProfileMachine describe_machine(const Job& job, [[maybe_unused]] c10::Device device) {
  ProfileMachine machine;
  machine.device = job.hardware.device;
  machine.processor = processor_name();
  machine.cores = std::max(1u, std::thread::hardware_concurrency());
  machine.threads = at::get_num_threads();
  machine.libtorch = TORCH_VERSION;
#ifdef MMOE_WITH_CUDA
  int version = 0;
  if (!device.is_cpu() && cudaRuntimeGetVersion(&version) == cudaSuccess) {
    machine.cuda = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  }
#endif
  machine.commit = kVersion;
  return machine;
}

}  // namespace mmoe
