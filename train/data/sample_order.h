#pragma once
// The order in which training sees its samples: a pseudorandom permutation that is computed, not stored.

#include <cstdint>

namespace mmoe {

// Each epoch visits each of `num_samples` samples once, in an order that depends on (seed, epoch) alone. Any rank
// computes any place of it directly: sample r of global batch s (from 0) is place s * global_batch_size + r.
// Law: a balanced Feistel network over the next power of 4, cycle-walked into [0, num_samples) (Black and Rogaway 2002,
// "Ciphers with arbitrary finite domains"); fewer than four steps expected a call.
class SampleOrder {
 public:
  SampleOrder(int64_t num_samples, uint64_t seed);
  // The sample at `place`, which counts on from 0 through all epochs.
  int64_t sample(int64_t place) const;
  int64_t num_samples() const { return num_samples_; }

 private:
  int64_t num_samples_;
  uint64_t seed_;
  int half_bits_;
};

}  // namespace mmoe
