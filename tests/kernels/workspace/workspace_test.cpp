#include "kernels/workspace/workspace.h"

#include <gtest/gtest.h>

namespace mmoe::kernels {
namespace {

size_t allocated = 0;
int live = 0;

void* counting_allocate(size_t bytes) {
  allocated += bytes;
  ++live;
  return std::aligned_alloc(kWorkspaceAlignment, aligned_size(bytes));
}
void counting_free(void* pointer) {
  --live;
  std::free(pointer);
}
void* failing_allocate(size_t) { return nullptr; }

TEST(Workspace, TakesFromTheInstalledAllocatorAndGivesBack) {
  set_allocator(counting_allocate, counting_free);
  {
    const Workspace workspace(nullptr, 100);
    EXPECT_NE(workspace.data(), nullptr);
    EXPECT_EQ(allocated, 100u);
    EXPECT_EQ(live, 1);
  }
  EXPECT_EQ(live, 0);
  set_allocator(nullptr, nullptr);
}

TEST(Workspace, UsesTheCallersMemory) {
  set_allocator(counting_allocate, counting_free);
  char memory[64];
  { EXPECT_EQ(Workspace(memory, sizeof memory).data(), memory); }
  EXPECT_EQ(live, 0);
  set_allocator(nullptr, nullptr);
}

TEST(Workspace, ThrowsWhenThereIsNoMemory) {
  set_allocator(failing_allocate, counting_free);
  EXPECT_THROW(Workspace(nullptr, 8), std::bad_alloc);
  set_allocator(nullptr, nullptr);
}

}  // namespace
}  // namespace mmoe::kernels
