#include "train/profiling/step_trace.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <cerrno>
#include <cstdlib>
#include <set>
#include <system_error>

namespace mmoe {
namespace {

using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

}  // namespace

StepTrace::StepTrace(c10::Device device) {
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  // Without a GPU, Kineto would report that there is none as an error; 6: no messages.
  if (device.is_cpu()) setenv("KINETO_LOG_LEVEL", "6", /*overwrite=*/0);
  const ProfilerConfig config(ProfilerState::KINETO);
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
}

StepTrace::~StepTrace() {
  if (recording_) torch::autograd::profiler::disableProfiler();
}

void StepTrace::save(const std::filesystem::path& path) {
  recording_ = false;
  const auto result = torch::autograd::profiler::disableProfiler();
  // Kineto writes beside the target, renames, and only logs what goes wrong: see whether there is a file.
  std::error_code error;
  std::filesystem::remove(path, error);
  errno = 0;
  result->save(path.string());
  if (!std::filesystem::exists(path, error)) {
    throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(), path.string());
  }
}

NvtxRanges::NvtxRanges() { torch::autograd::profiler::enableProfiler(ProfilerConfig(ProfilerState::NVTX), {}); }
NvtxRanges::~NvtxRanges() { torch::autograd::profiler::disableProfiler(); }

}  // namespace mmoe
