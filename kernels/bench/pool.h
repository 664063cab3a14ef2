#pragma once
// A fixed set of threads for the benchmarks: range i of a parallel loop always runs on thread i.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mmoe::kernels::bench {

class Pool {
 public:
  // The caller is one of the threads.
  explicit Pool(int num_threads) {
    for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { serve(i); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    start_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls piece(i, pieces) for every i in [0, pieces) and returns when all are done.
  void run(int pieces, const std::function<void(int, int)>& piece) {
    {
      const std::lock_guard lock(mutex_);
      piece_ = &piece;
      pieces_ = pieces;
      waiting_ = static_cast<int>(threads_.size());
      ++round_;
    }
    start_.notify_all();
    piece(0, pieces);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return waiting_ == 0; });
  }
  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

 private:
  void serve(int number) {
    for (uint64_t seen = 0;;) {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
      const int pieces = pieces_;
      const auto* piece = piece_;
      lock.unlock();
      if (number < pieces) (*piece)(number, pieces);
      lock.lock();
      if (--waiting_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int, int)>* piece_ = nullptr;
  int pieces_ = 0, waiting_ = 0;
  uint64_t round_ = 0;
  bool stopping_ = false;
};

}  // namespace mmoe::kernels::bench
