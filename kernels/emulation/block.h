#pragma once
// One block of the emulated grid: its threads as fibers, its barrier, the collectives of its warps.

#include <boost/context/fiber.hpp>
#include <functional>
#include <list>
#include <random>
#include <vector>

#include "kernels/emulation/device.h"

namespace mmoe::kernels::emulation {

class Block {
 public:
  Block(dim3 grid, dim3 size, dim3 index, const std::function<void()>& body, std::mt19937_64& order);

  // Runs the threads to their ends. False if some wait for others that never come; they are unwound.
  bool run();

  const Place& place() const { return place_; }
  unsigned lane() const { return current_->number % 32; }

  // The collectives, called by the current thread.
  void wait_at_barrier();
  const WarpValues& exchange(uint32_t mask, WarpOperation operation, uint64_t value);

 private:
  struct Thread {
    boost::context::fiber fiber;      // where to continue
    boost::context::fiber scheduler;  // where to go back to
    dim3 index;
    unsigned number = 0;  // within the block; its warp is number / 32
    bool started = false, finished = false, at_barrier = false, in_exchange = false;
    WarpValues received;
    char* stack = nullptr;
    void* fake_stack = nullptr;  // the address sanitizer's, while the thread is switched away
  };
  // Lanes of one warp that have met in a collective and wait for the rest of their mask.
  struct Exchange {
    unsigned warp;
    uint32_t mask, arrived;
    WarpOperation operation;
    WarpValues values;
  };
  struct Abandoned {};  // unwinds a thread of a block that cannot finish

  uint32_t present_lanes(unsigned warp, uint32_t mask) const;
  bool release_barrier(size_t finished);
  void start(Thread& thread);
  void resume(Thread& thread);
  void yield();
  void enter_fiber(void* fake_stack);
  void leave_fiber(void** fake_stack);

  std::vector<Thread> threads_;
  std::vector<Thread*> runnable_;
  std::list<Exchange> exchanges_;
  const std::function<void()>& body_;
  std::mt19937_64& order_;
  Place place_;
  Thread* current_ = nullptr;
  bool failed_ = false;
  const void* scheduler_stack_ = nullptr;  // of the caller of run(), for the address sanitizer
  size_t scheduler_stack_size_ = 0;
};

}  // namespace mmoe::kernels::emulation
