#pragma once
// What the kernel tests share: typed arrays read and written as double, the versions of an operation, comparison within
// a tolerance, and a pool of real threads.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/parallel/parallel.h"
#include "kernels/types/scalar.h"

#if defined(MMOE_KERNELS_EMULATED) || defined(MMOE_WITH_CUDA)
#define MMOE_TEST_CUDA 1
#include <cuda_runtime_api.h>
#endif

namespace mmoe::kernels {

// The versions that are compared with the reference. kCuda is the emulation, or the GPU in a build with CUDA.
enum class Version { kCpu, kCuda };

inline bool gpu_is_missing() {
#ifdef MMOE_TEST_CUDA
  static const bool missing = [] {
    int count = 0;
    return cudaGetDeviceCount(&count) != cudaSuccess || count == 0;
  }();
  return missing;
#else
  return true;
#endif
}

inline std::vector<Version> versions() {
#ifdef MMOE_TEST_CUDA
  return {Version::kCpu, Version::kCuda};
#else
  return {Version::kCpu};
#endif
}

// Memory that both sides can read.
template <class T>
struct SharedAllocator {
  using value_type = T;
  SharedAllocator() = default;
  template <class U>
  SharedAllocator(const SharedAllocator<U>&) {}
  T* allocate(size_t n) {
    void* pointer = nullptr;
    const size_t bytes = (n * sizeof(T) + 63) / 64 * 64;
#ifdef MMOE_TEST_CUDA
    if (!gpu_is_missing() && cudaMallocManaged(&pointer, bytes) == cudaSuccess) return static_cast<T*>(pointer);
#endif
    pointer = std::aligned_alloc(64, bytes);
    if (pointer == nullptr) throw std::bad_alloc();
    return static_cast<T*>(pointer);
  }
  void deallocate(T* pointer, size_t) {
#ifdef MMOE_TEST_CUDA
    if (!gpu_is_missing()) return static_cast<void>(cudaFree(pointer));
#endif
    std::free(pointer);
  }
  bool operator==(const SharedAllocator&) const { return true; }
};

template <class T>
using SharedVector = std::vector<T, SharedAllocator<T>>;

// A number array of one scalar type whose elements are read and written as double.
class Array {
 public:
  Array(Scalar scalar, int64_t size, double value = 0)
      : scalar_(scalar), size_(size), bytes_(static_cast<size_t>(size) * size_of(scalar) + 1) {
    for (int64_t i = 0; i < size; ++i) set(i, value);
  }
  static Array of(Scalar scalar, const std::vector<double>& values) {
    Array array(scalar, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) array.set(static_cast<int64_t>(i), values[i]);
    return array;
  }
  // Independent draws from the normal law of the given spread.
  static Array normal(Scalar scalar, int64_t size, uint64_t seed, double spread = 1) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> law(0, spread);
    Array array(scalar, size);
    for (int64_t i = 0; i < size; ++i) array.set(i, law(generator));
    return array;
  }

  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  Scalar scalar() const { return scalar_; }
  int64_t size() const { return size_; }
  double at(int64_t i) const {
    return visit_scalar(scalar_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      return static_cast<double>(load(reinterpret_cast<const T*>(bytes_.data())[i]));
    });
  }
  void set(int64_t i, double value) {
    visit_scalar(scalar_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      reinterpret_cast<T*>(bytes_.data())[i] = store<T>(static_cast<Accumulate<T>>(value));
    });
  }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }  // bit for bit

 private:
  Scalar scalar_;
  int64_t size_;
  SharedVector<unsigned char> bytes_;
};

// Unit roundoff: the largest relative error of rounding to the type.
inline double roundoff(Scalar scalar) {
  return scalar == Scalar::kFloat64 ? 0x1p-53 : scalar == Scalar::kFloat32 ? 0x1p-24 : 0x1p-8;
}

struct Tolerance {
  double absolute = 0;
  double relative = 0;  // of the reference's value
};

// Two results that were computed with relative error `computed` and then rounded to `stored`.
inline Tolerance rounded(Scalar stored, double computed, double absolute = 0) {
  return {absolute, 2 * (computed + roundoff(stored))};
}

// Element by element; a NaN or an infinity must be the same on both sides.
inline void expect_close(const Array& got, const Array& want, Tolerance tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (int64_t i = 0; i < got.size(); ++i) {
    const double g = got.at(i), w = want.at(i);
    if (std::isnan(w) || std::isinf(w)) {
      ASSERT_TRUE((std::isnan(w) && std::isnan(g)) || g == w) << what << '[' << i << "]: " << g << ", reference " << w;
    } else {
      ASSERT_NEAR(g, w, tolerance.absolute + tolerance.relative * std::abs(w)) << what << '[' << i << ']';
    }
  }
}

// The largest magnitude in an array.
inline double largest(const Array& array) {
  double maximum = 0;
  for (int64_t i = 0; i < array.size(); ++i) maximum = std::max(maximum, std::abs(array.at(i)));
  return maximum;
}

inline double dot(const Array& a, const Array& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) sum += a.at(i) * b.at(i);
  return sum;
}

// Compares `gradient` with central differences of `loss` with respect to the float64 array `x`, which is restored. With
// step h = 1e-5 and values near 1 the error is about h^2 f''' / 6 + 2^-53 f / h: 1e-10, so 1e-7 leaves room for both.
inline void expect_gradient(Array& x, const Array& gradient, const std::function<double()>& loss,
                            const std::string& what) {
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double value = x.at(i);
    x.set(i, value + kStep);
    const double above = loss();
    x.set(i, value - kStep);
    const double below = loss();
    x.set(i, value);
    const double difference = (above - below) / (2 * kStep);
    ASSERT_NEAR(gradient.at(i), difference, 1e-7 * (1 + std::abs(difference))) << what << '[' << i << ']';
  }
}

// A pool that really runs `num_threads` threads, pieces handed out from the back to make the order visible.
inline int& test_num_threads() {
  static int num_threads = 1;
  return num_threads;
}
inline void threaded_parallel_for(int64_t begin, int64_t end, int64_t grain, void* context,
                                  void (*body)(void* context, int64_t begin, int64_t end)) {
  const int64_t pieces = std::min<int64_t>(test_num_threads(), (end - begin + grain - 1) / grain);
  std::vector<std::thread> threads;
  for (int64_t i = pieces - 1; i >= 0; --i) {
    const int64_t b = begin + (end - begin) * i / pieces, e = begin + (end - begin) * (i + 1) / pieces;
    threads.emplace_back([=] { body(context, b, e); });
  }
  for (std::thread& thread : threads) thread.join();
}

// Runs `compute`, which returns its results, with 1, 2 and 3 threads and expects the same bits.
inline void expect_thread_independent(const std::function<std::vector<Array>()>& compute) {
  set_parallel_for(nullptr);
  const std::vector<Array> serial = compute();
  set_parallel_for(threaded_parallel_for);
  for (const int num_threads : {1, 2, 3}) {
    test_num_threads() = num_threads;
    const std::vector<Array> result = compute();
    ASSERT_EQ(result.size(), serial.size());
    for (size_t i = 0; i < result.size(); ++i)
      EXPECT_TRUE(result[i] == serial[i]) << "result " << i << ", " << num_threads << " threads";
  }
  set_parallel_for(nullptr);
}

// A parametrised test runs once for every version and scalar type; on a machine without a GPU kCuda skips.
struct Case {
  Version version;
  Scalar scalar;
};
inline std::vector<Case> cases(const std::vector<Scalar>& scalars) {
  std::vector<Case> all;
  for (const Version version : versions()) {
    for (const Scalar scalar : scalars) all.push_back({version, scalar});
  }
  return all;
}
inline std::vector<Case> all_cases() { return cases({Scalar::kFloat64, Scalar::kFloat32, Scalar::kBFloat16}); }
inline std::vector<Case> accumulate_cases() { return cases({Scalar::kFloat64, Scalar::kFloat32}); }
inline std::string case_name(const testing::TestParamInfo<Case>& info) {
  const char* version = info.param.version == Version::kCpu ? "cpu" : "cuda";
  const char* scalar = info.param.scalar == Scalar::kFloat64   ? "float64"
                       : info.param.scalar == Scalar::kFloat32 ? "float32"
                                                               : "bfloat16";
  return std::string(version) + "_" + scalar;
}

class KernelTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().version == Version::kCuda && gpu_is_missing()) GTEST_SKIP() << "no GPU";
  }
};

#ifdef MMOE_TEST_CUDA
inline void expect_launched(cudaError_t error) {
  ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}
// Runs operation_cpu(args) or operation_cuda(args, stream).
#define MMOE_RUN(version, operation, args)                   \
  if ((version) == Version::kCpu) {                          \
    operation##_cpu(args);                                   \
  } else {                                                   \
    expect_launched(operation##_cuda(args, cudaStream_t{})); \
  }
// The same where the CUDA version needs a workspace.
#define MMOE_RUN_WITH_WORKSPACE(version, operation, args)                                   \
  if ((version) == Version::kCpu) {                                                         \
    operation##_cpu(args);                                                                  \
  } else {                                                                                  \
    SharedVector<unsigned char> workspace(operation##_cuda_workspace_size(args) + 1, 0xEE); \
    auto with_workspace = args;                                                             \
    with_workspace.workspace = workspace.data();                                            \
    expect_launched(operation##_cuda(with_workspace, cudaStream_t{}));                      \
  }
#else
#define MMOE_RUN(version, operation, args) (static_cast<void>(version), operation##_cpu(args))
#define MMOE_RUN_WITH_WORKSPACE(version, operation, args) MMOE_RUN(version, operation, args)
#endif

}  // namespace mmoe::kernels
