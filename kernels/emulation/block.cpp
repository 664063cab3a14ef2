#include "kernels/emulation/block.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace mmoe::kernels::emulation {
namespace {

constexpr size_t kStackSize = 128 * 1024;

// The stack of a block's n-th thread, used again by the next block.
char* stack_of_thread(size_t n) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= n) stacks.emplace_back(new char[kStackSize]);
  return stacks[n].get();
}

// Hands one given stack to a fiber.
struct GivenStack {
  char* bottom;
  boost::context::stack_context allocate() {
    boost::context::stack_context stack;
    stack.size = kStackSize;
    stack.sp = bottom + kStackSize;
    return stack;
  }
  void deallocate(boost::context::stack_context&) {}
};

}  // namespace

Block::Block(dim3 grid, dim3 size, dim3 index, const std::function<void()>& body, std::mt19937_64& order)
    : threads_(size_t{1} * size.x * size.y * size.z), body_(body), order_(order), place_{{}, index, size, grid} {
  for (unsigned i = 0; i < threads_.size(); ++i) {
    threads_[i].number = i;
    threads_[i].index = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
    runnable_.push_back(&threads_[i]);
  }
}

bool Block::run() {
  size_t finished = 0;
  while (finished < threads_.size() && !failed_) {
    if (runnable_.empty() && !release_barrier(finished)) break;
    std::swap(runnable_[order_() % runnable_.size()], runnable_.back());
    Thread* thread = runnable_.back();
    runnable_.pop_back();
    resume(*thread);
    finished += thread->finished;
  }
  failed_ = finished < threads_.size();
  for (Thread& thread : threads_) {
    if (thread.started && !thread.finished) resume(thread);
  }
  return !failed_;
}

void Block::wait_at_barrier() {
  current_->at_barrier = true;
  yield();
}

const WarpValues& Block::exchange(uint32_t mask, WarpOperation operation, uint64_t value) {
  Thread& thread = *current_;
  const unsigned warp = thread.number / 32, own = thread.number % 32;
  auto found = std::find_if(exchanges_.begin(), exchanges_.end(),
                            [&](const Exchange& e) { return e.warp == warp && e.mask == mask; });
  if (found == exchanges_.end()) {
    found = exchanges_.insert(exchanges_.end(), Exchange{warp, mask, 0, operation, {}});
  }
  if (found->operation != operation || (mask >> own & 1u) == 0) {
    std::fprintf(stderr, "emulation: lane %u of warp %u meets the others in another collective\n", own, warp);
    failed_ = true;
    yield();
  }
  found->arrived |= 1u << own;
  found->values.of_lane[own] = value;
  thread.in_exchange = true;
  if (found->arrived == present_lanes(warp, mask)) {
    for (unsigned i = 0; i < 32; ++i) {
      if ((found->arrived >> i & 1u) == 0) continue;
      Thread& other = threads_[warp * 32 + i];
      other.received = found->values;
      other.in_exchange = false;
      runnable_.push_back(&other);  // the last to arrive too, so that who goes on first is drawn
    }
    exchanges_.erase(found);
  }
  yield();
  return thread.received;
}

// The lanes of the mask that exist: the last warp of a block may be short.
uint32_t Block::present_lanes(unsigned warp, uint32_t mask) const {
  const size_t left = threads_.size() - size_t{warp} * 32;
  return left >= 32 ? mask : mask & ((1u << left) - 1);
}

bool Block::release_barrier(size_t finished) {
  size_t waiting = 0;
  for (const Thread& thread : threads_) waiting += thread.at_barrier;
  if (waiting == 0 || waiting + finished != threads_.size()) {
    std::fprintf(stderr, "emulation: deadlock: %zu threads at a barrier, %zu in a warp collective, %zu ended\n",
                 waiting, threads_.size() - waiting - finished, finished);
    return false;
  }
  for (Thread& thread : threads_) {
    if (!thread.at_barrier) continue;
    thread.at_barrier = false;
    runnable_.push_back(&thread);
  }
  return true;
}

void Block::start(Thread& thread) {
  thread.started = true;
  thread.stack = stack_of_thread(thread.number);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(thread.stack, kStackSize);
#endif
  thread.fiber = boost::context::fiber(std::allocator_arg, GivenStack{thread.stack},
                                       [this, &thread](boost::context::fiber&& scheduler) {
                                         enter_fiber(nullptr);
                                         thread.scheduler = std::move(scheduler);
                                         try {
                                           body_();
                                         } catch (const Abandoned&) {
                                         }
                                         thread.finished = true;
                                         leave_fiber(nullptr);
                                         return std::move(thread.scheduler);
                                       });
}

void Block::resume(Thread& thread) {
  if (!thread.started) start(thread);
  current_ = &thread;
  place_.thread_index = thread.index;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, thread.stack, kStackSize);
#endif
  thread.fiber = std::move(thread.fiber).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Block::yield() {
  Thread& thread = *current_;
  leave_fiber(&thread.fake_stack);
  thread.scheduler = std::move(thread.scheduler).resume();
  enter_fiber(thread.fake_stack);
  if (failed_) throw Abandoned{};
}

void Block::enter_fiber([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_stack_size_);
#endif
}

void Block::leave_fiber([[maybe_unused]] void** fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, scheduler_stack_, scheduler_stack_size_);
#endif
}

}  // namespace mmoe::kernels::emulation
