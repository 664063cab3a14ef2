#pragma once
// A named range in what LibTorch's profilers record of this thread: Kineto's traces and NVTX.

#include <ATen/record_function.h>

#include <string>
#include <string_view>

namespace mmoe {

class TraceRange {
 public:
  // From here to the end of its life. `name`, () -> std::string, is called only while a profiler records.
  template <class Name>
  explicit TraceRange(const Name& name) {
    if (function_.isActive()) function_.before(std::string_view(name()));
  }
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;

 private:
  at::RecordFunction function_{at::RecordScope::USER_SCOPE};
};

}  // namespace mmoe
