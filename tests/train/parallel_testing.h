#pragma once
// Ranks as threads of one process, joined by real Gloo groups over loopback.

#include <barrier>
#include <functional>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "tests/train/trainer_testing.h"
#include "train/parallel/process_groups.h"

namespace mmoe {

// Runs body(groups) on every rank of the job at once, when all have connected (Gloo fails a rank whose peer is gone
// before the two have shaken hands); what one throws fails the test once all have ended.
inline void run_ranks(const Job& job, const std::function<void(const ProcessGroups&)>& body) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::thread> ranks;
  std::vector<std::string> errors(static_cast<size_t>(job.hardware.num_devices));
  std::barrier connected(job.hardware.num_devices);
  const auto connect = [&](int64_t rank) {
    try {
      ProcessGroups groups = connect_groups(job, rank, c10::kCPU, store, std::chrono::seconds(60));
      connected.arrive_and_wait();
      return groups;
    } catch (...) {
      connected.arrive_and_drop();
      throw;
    }
  };
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    ranks.emplace_back([&, rank] {
      try {
        const ProcessGroups groups = connect(rank);
        body(groups);
      } catch (const std::exception& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (size_t rank = 0; rank < errors.size(); ++rank) EXPECT_EQ(errors[rank], "") << "rank " << rank;
}

}  // namespace mmoe
