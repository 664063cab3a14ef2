#include "sim/elastic/sliding_maximum.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "sim/elastic/philox.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kMostWork = 2e7;  // multiplications of the exact way

// A state is the last width - 1 values as digits, the oldest first. Mass that passes the bound leaves for good.
double exact_tail(const DiscreteLaw& law, int64_t width, int64_t count, int64_t bound) {
  const auto choices = static_cast<size_t>(law.max() - law.min() + 1);
  size_t num_states = 1;
  for (int64_t i = 1; i < width; ++i) num_states *= choices;
  const size_t oldest = std::max<size_t>(1, num_states / choices);  // weight of the oldest digit
  std::vector<int64_t> digit_sum(num_states, 0);
  for (size_t state = 0; state < num_states; ++state) {
    for (size_t rest = state; rest > 0; rest /= choices) digit_sum[state] += static_cast<int64_t>(rest % choices);
  }
  const int64_t room = bound - width * law.min();  // of a window's sum of value - min
  std::vector<double> mass(num_states, 0.0), next(num_states);
  mass[0] = 1;
  double passed = 0;
  // Until a window is full its missing values stand as zeros, which only the bound on full windows could exceed.
  for (int64_t drawn = 1; drawn <= count; ++drawn) {
    std::fill(next.begin(), next.end(), 0.0);
    for (size_t state = 0; state < num_states; ++state) {
      if (mass[state] == 0) continue;
      for (size_t j = 0; j < choices; ++j) {
        const double p = mass[state] * law.probabilities()[j];
        if (digit_sum[state] + static_cast<int64_t>(j) > room) {
          passed += p;
        } else {
          next[num_states == 1 ? 0 : (state % oldest) * choices + j] += p;
        }
      }
    }
    mass.swap(next);
  }
  return passed;
}

// Uniform numbers in (0, 1).
class Uniforms {
 public:
  explicit Uniforms(uint64_t seed) : seed_(seed) {}
  double next() { return uniform(draw_bits(seed_, count_++, 0, 0)); }

 private:
  uint64_t seed_, count_ = 0;
};

TailProbability sampled_tail(const DiscreteLaw& law, int64_t width, int64_t count, int64_t bound, int64_t num_samples,
                             uint64_t seed) {
  const auto windows = static_cast<double>(count - width + 1);
  const std::vector<double>& p = law.probabilities();
  // tails[n][s]: P(sum of n values - min is more than s), s >= 0.
  std::vector<std::vector<double>> tails = {{0.0}};
  for (int64_t n = 1; n <= width; ++n) {
    const DiscreteLaw sum = law.sum_of(n);
    auto& tail = tails.emplace_back(sum.probabilities().size());
    double above = 0;
    for (size_t s = tail.size(); s-- > 0;) {
      tail[s] = above;
      above += sum.probabilities()[s];
    }
  }
  const auto tail_of = [&](int64_t n, int64_t room) {
    if (room < 0) return 1.0;
    const auto& tail = tails[static_cast<size_t>(n)];
    return room < static_cast<int64_t>(tail.size()) ? tail[static_cast<size_t>(room)] : 0.0;
  };
  const int64_t room = bound - width * law.min();
  const double one = tail_of(width, room);
  if (one == 0) return {0, 0};
  std::vector<double> cumulative(p.size());
  double all = 0;
  for (size_t j = 0; j < p.size(); ++j) cumulative[j] = all += p[j];
  Uniforms uniforms(seed);
  const auto free_draw = [&] {
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), uniforms.next() * all);
    return std::min<int64_t>(found - cumulative.begin(), static_cast<int64_t>(p.size()) - 1);
  };
  std::vector<int64_t> values(static_cast<size_t>(count));
  double sum = 0, squares = 0;
  for (int64_t sample = 0; sample < num_samples; ++sample) {
    const auto first = std::min(static_cast<int64_t>(uniforms.next() * windows), count - width);
    int64_t left = room;
    for (int64_t i = 0; i < count; ++i) {
      if (i < first || i >= first + width) {
        values[static_cast<size_t>(i)] = free_draw();
        continue;
      }
      const int64_t behind = first + width - 1 - i;  // values of the window still to be drawn after this one
      double target = uniforms.next() * tail_of(behind + 1, left);
      int64_t j = 0, last_possible = 0;
      for (; j < static_cast<int64_t>(p.size()); ++j) {
        const double weight = p[static_cast<size_t>(j)] * tail_of(behind, left - j);
        if (weight > 0) last_possible = j;
        if (weight > 0 && (target -= weight) < 0) break;
      }
      j = std::min(j, static_cast<int64_t>(p.size()) - 1);
      if (target >= 0) j = last_possible;
      values[static_cast<size_t>(i)] = j;
      left -= j;
    }
    int64_t in_window = 0, passing = 0;
    for (int64_t i = 0; i < count; ++i) {
      in_window += values[static_cast<size_t>(i)];
      if (i >= width) in_window -= values[static_cast<size_t>(i - width)];
      if (i >= width - 1 && in_window > room) ++passing;
    }
    const double weight = 1 / static_cast<double>(std::max<int64_t>(1, passing));
    sum += weight;
    squares += weight * weight;
  }
  const auto n = static_cast<double>(num_samples);
  const double mean = sum / n, deviation = std::sqrt(std::max(0.0, squares / n - mean * mean) / n);
  return {std::min(1.0, windows * one * mean), windows * one * deviation};
}

}  // namespace

TailProbability sliding_maximum_tail(const DiscreteLaw& law, int64_t width, int64_t count, int64_t bound,
                                     int64_t num_samples, uint64_t seed) {
  MMOE_CHECK(width >= 1 && count >= 1 && num_samples >= 1) << width << ", " << count << ", " << num_samples;
  width = std::min(width, count);
  if (bound >= width * law.max()) return {0, 0};
  if (bound < width * law.min()) return {1, 0};
  const auto choices = static_cast<double>(law.max() - law.min() + 1);
  const double work = std::pow(choices, static_cast<double>(width)) * static_cast<double>(count);
  if (work <= kMostWork) return {exact_tail(law, width, count, bound), 0};
  return sampled_tail(law, width, count, bound, num_samples, seed);
}

}  // namespace mmoe
