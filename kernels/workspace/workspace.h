#pragma once
// Scratch memory of the CPU versions. An operation that needs some has a field `workspace` and a function that gives
// its size in bytes; a null workspace is taken from the allocator installed here for the length of the call.

#include <cstddef>
#include <cstdlib>
#include <new>

namespace mmoe::kernels {

inline constexpr size_t kWorkspaceAlignment = 64;

// Bytes rounded up to the workspace alignment.
constexpr size_t aligned_size(size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

namespace internal {
inline void* default_allocate(size_t bytes) { return std::aligned_alloc(kWorkspaceAlignment, aligned_size(bytes)); }
inline void (*installed_free)(void*) = std::free;
inline void* (*installed_allocate)(size_t) = default_allocate;
}  // namespace internal

// Installs the allocator of scratch memory; it must return 64-byte aligned memory. Null restores std::aligned_alloc.
inline void set_allocator(void* (*allocate)(size_t bytes), void (*free)(void* pointer)) {
  internal::installed_allocate = allocate != nullptr ? allocate : internal::default_allocate;
  internal::installed_free = allocate != nullptr ? free : std::free;
}

// The caller's workspace, or scratch memory of its own until it goes out of scope. Throws std::bad_alloc.
class Workspace {
 public:
  Workspace(void* given, size_t bytes) : data_(given) {
    if (given != nullptr || bytes == 0) return;
    data_ = owned_ = internal::installed_allocate(bytes);
    if (owned_ == nullptr) throw std::bad_alloc();
  }
  ~Workspace() {
    if (owned_ != nullptr) internal::installed_free(owned_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return data_; }

 private:
  void* data_;
  void* owned_ = nullptr;
};

}  // namespace mmoe::kernels
