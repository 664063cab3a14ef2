#include "sim/elastic/in_flight_maximum.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "sim/elastic/discrete_law.h"
#include "sim/elastic/draw_sum.h"
#include "sim/elastic/philox.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kMostWork = 3e6;  // states times outcomes of the exact way

// Uniform numbers in (0, 1).
class Uniforms {
 public:
  explicit Uniforms(uint64_t seed) : seed_(seed) {}
  double next() { return uniform(draw_bits(seed_, count_++, 0, 0)); }
  // One of n, in proportion to weight(i) >= 0, which are not all 0.
  template <class Weight>
  size_t choose(size_t n, Weight weight) {
    weights_.resize(n);
    double all = 0;
    for (size_t i = 0; i < n; ++i) all += weights_[i] = weight(i);
    double target = next() * all;
    size_t last = 0;
    for (size_t i = 0; i < n; ++i) {
      if (weights_[i] == 0) continue;
      last = i;
      if ((target -= weights_[i]) < 0) break;
    }
    return last;
  }

 private:
  uint64_t seed_, count_ = 0;
  std::vector<double> weights_;
};

// One micro-batch's draws in its chunks, in their order, under its bound.
class MicroBatchLaw {
 public:
  MicroBatchLaw(const std::vector<ChunkLaw>& chunks, BudgetKind kind, int64_t bound)
      : chunks_(chunks), exact_(kind == BudgetKind::kExact), bound_(bound) {
    MMOE_CHECK(kind != BudgetKind::kWindow && !chunks.empty()) << chunks.size() << " chunks";
    rest_.assign(chunks.size() + 1, std::vector<double>(static_cast<size_t>(bound) + 1, exact_ ? 0.0 : 1.0));
    rest_.back().front() = 1;
    for (size_t c = chunks.size(); c-- > 0;) {
      for (int64_t left = 0; left <= bound; ++left) {
        double sum = 0;
        for (const ChunkOutcome& outcome : chunks[c]) sum += outcome.probability * rest(c + 1, left - outcome.sum);
        rest_[c][static_cast<size_t>(left)] = sum;
      }
    }
    MMOE_CHECK(rest(0, bound) > 0) << "no draw keeps " << bound;
    for (size_t c = 0; c < chunks.size(); ++c) {
      auto& by_drawn = cumulative_.emplace_back();
      for (int64_t drawn = 0; drawn <= (c == 0 ? 0 : bound); ++drawn) {
        auto& cumulative = by_drawn.emplace_back();
        double sum = 0;
        for (const ChunkOutcome& outcome : chunks[c]) cumulative.push_back(sum += probability(c, outcome, drawn));
      }
    }
    prefixes_.push_back({{{0, 0}, 1.0}});
    for (const ChunkLaw& chunk : chunks) {
      std::map<std::pair<int64_t, int64_t>, double> next;
      for (const auto& [drawn, probability] : prefixes_.back()) {
        for (const ChunkOutcome& outcome : chunk) {
          const int64_t sum = drawn.first + outcome.sum;
          if (sum <= bound) next[{sum, drawn.second + outcome.cells}] += probability * outcome.probability;
        }
      }
      prefixes_.push_back(std::move(next));
    }
  }

  size_t num_chunks() const { return chunks_.size(); }
  const ChunkLaw& chunk(size_t c) const { return chunks_[c]; }
  // Of an outcome of chunk c where those before have drawn `drawn`.
  double probability(size_t c, const ChunkOutcome& outcome, int64_t drawn) const {
    const double all = rest(c, bound_ - drawn);
    return all > 0 ? outcome.probability * rest(c + 1, bound_ - drawn - outcome.sum) / all : 0;
  }
  // Of the cells of the first `count` chunks.
  DiscreteLaw prefix(size_t count) const {
    int64_t most = 0;
    for (const auto& [drawn, probability] : prefixes_[count]) most = std::max(most, drawn.second);
    std::vector<double> weights(static_cast<size_t>(most) + 1);
    for (const auto& [drawn, probability] : prefixes_[count]) {
      weights[static_cast<size_t>(drawn.second)] += probability * rest(count, bound_ - drawn.first);
    }
    return DiscreteLaw(0, std::move(weights));
  }
  // Cells of all chunks, given (count > 0) those of the first `count` together.
  void draw(size_t count, int64_t cells, Uniforms& uniforms, std::vector<int64_t>& drawn_cells) const {
    drawn_cells.assign(chunks_.size(), 0);
    int64_t drawn = 0;
    if (count > 0) {
      std::vector<std::pair<int64_t, double>> sums;
      for (const auto& [sum_cells, probability] : prefixes_[count]) {
        if (sum_cells.second == cells) {
          sums.emplace_back(sum_cells.first, probability * rest(count, bound_ - sum_cells.first));
        }
      }
      drawn = sums[uniforms.choose(sums.size(), [&](size_t i) { return sums[i].second; })].first;
      int64_t before = drawn;
      for (size_t c = count; c-- > 0;) {
        const ChunkLaw& outcomes = chunks_[c];
        const ChunkOutcome& outcome = outcomes[uniforms.choose(outcomes.size(), [&](size_t i) {
          const auto found = prefixes_[c].find({before - outcomes[i].sum, cells - outcomes[i].cells});
          return found == prefixes_[c].end() ? 0 : outcomes[i].probability * found->second;
        })];
        drawn_cells[c] = outcome.cells;
        before -= outcome.sum;
        cells -= outcome.cells;
      }
    }
    for (size_t c = count; c < chunks_.size(); ++c) {
      const std::vector<double>& cumulative = cumulative_[c][static_cast<size_t>(drawn)];
      const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), uniforms.next() * cumulative.back());
      const ChunkOutcome& outcome = chunks_[c][static_cast<size_t>(found - cumulative.begin())];
      drawn_cells[c] = outcome.cells;
      drawn += outcome.sum;
    }
  }

 private:
  // P(chunks c, c + 1, ... keep what is left of the bound).
  double rest(size_t c, int64_t left) const { return left < 0 ? 0 : rest_[c][static_cast<size_t>(left)]; }

  const std::vector<ChunkLaw>& chunks_;
  bool exact_;
  int64_t bound_;
  std::vector<std::vector<double>> rest_;                     // [chunk][left of the bound]
  std::vector<std::vector<std::vector<double>>> cumulative_;  // [chunk][drawn before][outcome], of its probabilities
  std::vector<std::map<std::pair<int64_t, int64_t>, double>> prefixes_;  // [chunks]: (sum, cells), of the free law
};

// A micro-batch in a chunk.
struct Held {
  int32_t chunk, micro_batch;
  bool operator==(const Held&) const = default;
};

bool comes(const Pass& pass) { return pass.kind == PassKind::kForward; }
bool goes(const Pass& pass) { return pass.kind == PassKind::kBackward || pass.kind == PassKind::kBackwardWeight; }

// Whether micro-batches come into chunks 0, 1, ... and leave them the other way round.
bool is_nested(std::span<const Pass> order, size_t num_chunks) {
  std::map<int32_t, int32_t> held;  // micro-batch -> chunks
  for (const Pass& pass : order) {
    int32_t& count = held[pass.micro_batch];
    if (comes(pass) && pass.chunk != count++) return false;
    if (goes(pass) && pass.chunk != --count) return false;
  }
  return std::all_of(held.begin(), held.end(), [](const auto& one) { return one.second == 0; }) && num_chunks > 0;
}

// States times outcomes, summed over the forward passes, with no bound to make them fewer.
double work_of(const MicroBatchLaw& law, std::span<const Pass> order) {
  double states = 1, work = 0;
  for (const Pass& pass : order) {
    const auto outcomes = static_cast<double>(law.chunk(static_cast<size_t>(pass.chunk)).size());
    if (comes(pass)) work += states *= outcomes;
    if (goes(pass)) states /= outcomes;
  }
  return work;
}

// A state is the outcome in every chunk that holds a micro-batch, the last to come as the lowest digit. Mass that
// passes leaves for good.
std::optional<double> exact_tail(const MicroBatchLaw& law, std::span<const Pass> order, int64_t room) {
  uint64_t radix = 1;
  for (size_t c = 0; c < law.num_chunks(); ++c) radix = std::max<uint64_t>(radix, law.chunk(c).size());
  std::vector<Held> held;
  std::vector<std::pair<uint64_t, double>> states = {{0, 1.0}}, next;
  const auto power = [&](size_t digits) {
    uint64_t value = 1;
    for (size_t i = 0; i < digits; ++i) value *= radix;
    return value;
  };
  if (work_of(law, order) > kMostWork) return std::nullopt;
  double passed = 0;
  for (const Pass& pass : order) {
    if (comes(pass)) {
      const auto chunk = static_cast<size_t>(pass.chunk);
      const ChunkLaw& outcomes = law.chunk(chunk);
      next.clear();
      for (const auto& [state, mass] : states) {
        int64_t cells = 0, drawn = 0;
        uint64_t digits = state;
        for (size_t i = held.size(); i-- > 0; digits /= radix) {
          const ChunkOutcome& outcome = law.chunk(static_cast<size_t>(held[i].chunk))[digits % radix];
          cells += outcome.cells;
          if (held[i].micro_batch == pass.micro_batch) drawn += outcome.sum;
        }
        for (size_t i = 0; i < outcomes.size(); ++i) {
          const double p = mass * law.probability(chunk, outcomes[i], drawn);
          if (p == 0) continue;
          if (cells + outcomes[i].cells > room) {
            passed += p;
          } else {
            next.emplace_back(state * radix + i, p);
          }
        }
      }
      states.swap(next);
      held.push_back({pass.chunk, pass.micro_batch});
    } else if (goes(pass)) {
      const auto found = std::find(held.begin(), held.end(), Held{pass.chunk, pass.micro_batch});
      const uint64_t below = power(static_cast<size_t>(held.end() - found) - 1);
      for (auto& [state, mass] : states) state = state / (below * radix) * below + state % below;
      held.erase(found);
      std::sort(states.begin(), states.end());
      size_t kept = 0;
      for (size_t i = 1; i < states.size(); ++i) {
        if (states[i].first == states[kept].first) {
          states[kept].second += states[i].second;
        } else {
          states[++kept] = states[i];
        }
      }
      states.resize(std::min(states.size(), kept + 1));
    }
  }
  return passed;
}

// Times after which something goes: what is held then, by how many chunks hold each micro-batch.
struct Moment {
  std::vector<std::pair<int32_t, size_t>> held;  // micro-batch, chunks; the most chunks first
  size_t shape = 0;                              // of those alike but for the micro-batches
};

// The micro-batches held of one shape, drawn one after another given that together they pass.
struct Shape {
  std::vector<size_t> chunks;              // of each micro-batch
  std::vector<std::vector<double>> tails;  // [i][cells]: P(those from i on pass so many)
  double tail(size_t i, int64_t room) const {
    if (room < 0) return 1;
    return room < static_cast<int64_t>(tails[i].size()) ? tails[i][static_cast<size_t>(room)] : 0;
  }
};

Shape shape_of(std::vector<size_t> chunks, const std::vector<DiscreteLaw>& prefixes) {
  Shape shape{std::move(chunks), {}};
  shape.tails.resize(shape.chunks.size() + 1);
  DiscreteLaw sum = DiscreteLaw::certain(0);
  for (size_t i = shape.chunks.size() + 1; i-- > 0;) {
    if (i < shape.chunks.size()) sum = sum.convolve(prefixes[shape.chunks[i]]);
    std::vector<double>& tail = shape.tails[i];
    tail.resize(static_cast<size_t>(sum.max()) + 1);
    double above = 0;
    for (int64_t cells = sum.max(); cells >= 0; --cells) {
      tail[static_cast<size_t>(cells)] = above;
      above += sum.probability(cells);
    }
  }
  return shape;
}

TailProbability sampled_tail(const MicroBatchLaw& law, std::span<const Pass> order, int64_t room, int64_t num_samples,
                             uint64_t seed) {
  std::vector<DiscreteLaw> prefixes;
  for (size_t count = 0; count <= law.num_chunks(); ++count) prefixes.push_back(law.prefix(count));
  std::vector<Moment> moments;
  std::vector<Shape> shapes;
  std::map<std::vector<size_t>, size_t> known;
  std::map<int32_t, size_t> held;
  int32_t num_micro_batches = 0;
  bool rising = false;
  for (const Pass& pass : order) {
    num_micro_batches = std::max(num_micro_batches, pass.micro_batch + 1);
    if (comes(pass)) ++held[pass.micro_batch];
    if (goes(pass)) {
      if (rising) {
        Moment moment{{held.begin(), held.end()}, 0};
        std::sort(moment.held.begin(), moment.held.end(),
                  [](const auto& a, const auto& b) { return a.second > b.second; });
        std::vector<size_t> chunks;
        for (const auto& one : moment.held) chunks.push_back(one.second);
        const auto [found, added] = known.try_emplace(chunks, shapes.size());
        if (added) shapes.push_back(shape_of(std::move(chunks), prefixes));
        moment.shape = found->second;
        moments.push_back(std::move(moment));
      }
      if (--held[pass.micro_batch] == 0) held.erase(pass.micro_batch);
    }
    rising = comes(pass) || (rising && !goes(pass));
  }
  const auto probability = [&](size_t t) { return shapes[moments[t].shape].tail(0, room); };
  double all = 0;
  for (size_t t = 0; t < moments.size(); ++t) all += probability(t);
  if (all == 0) return {0, 0};
  Uniforms uniforms(seed);
  std::vector<std::vector<int64_t>> cells(static_cast<size_t>(num_micro_batches));
  std::vector<char> is_drawn(cells.size());
  double sum = 0, squares = 0;
  for (int64_t sample = 0; sample < num_samples; ++sample) {
    const Moment& at = moments[uniforms.choose(moments.size(), probability)];
    const Shape& shape = shapes[at.shape];
    std::fill(is_drawn.begin(), is_drawn.end(), 0);
    int64_t left = room;
    for (size_t i = 0; i < at.held.size(); ++i) {
      const auto [micro_batch, count] = at.held[i];
      const DiscreteLaw& prefix = prefixes[count];
      const size_t chosen = uniforms.choose(prefix.probabilities().size(), [&](size_t j) {
        return prefix.probabilities()[j] * shape.tail(i + 1, left - static_cast<int64_t>(j));
      });
      law.draw(count, static_cast<int64_t>(chosen), uniforms, cells[static_cast<size_t>(micro_batch)]);
      is_drawn[static_cast<size_t>(micro_batch)] = 1;
      left -= static_cast<int64_t>(chosen);
    }
    for (size_t m = 0; m < cells.size(); ++m) {
      if (!is_drawn[m]) law.draw(0, 0, uniforms, cells[m]);
    }
    int64_t in_flight = 0, passing = 0;
    bool up = false;
    for (const Pass& pass : order) {
      const int64_t of_pass = cells[static_cast<size_t>(pass.micro_batch)][static_cast<size_t>(pass.chunk)];
      if (comes(pass)) in_flight += of_pass;
      if (goes(pass)) {
        passing += up && in_flight > room;
        in_flight -= of_pass;
      }
      up = comes(pass) || (up && !goes(pass));
    }
    const double weight = 1 / static_cast<double>(std::max<int64_t>(1, passing));
    sum += weight;
    squares += weight * weight;
  }
  const auto n = static_cast<double>(num_samples);
  const double mean = sum / n, deviation = std::sqrt(std::max(0.0, squares / n - mean * mean) / n);
  return {std::min(1.0, all * mean), all * deviation};
}

}  // namespace

ChunkLaw chunk_law(const ElasticConfig& config, int64_t num_layers, const std::vector<int64_t>& cells) {
  const CellsBySum law = cells_by_sum(config, std::vector(static_cast<size_t>(num_layers), cells));
  ChunkLaw outcomes;
  for (size_t sum = 0; sum < law.size(); ++sum) {
    for (size_t i = 0; i < law[sum].size(); ++i) {
      if (law[sum][i] > 0) outcomes.push_back({static_cast<int64_t>(sum), static_cast<int64_t>(i), law[sum][i]});
    }
  }
  return outcomes;
}

std::optional<TailProbability> in_flight_maximum_tail(const std::vector<ChunkLaw>& chunks, BudgetKind kind,
                                                      int64_t bound, std::span<const Pass> order, int64_t room,
                                                      int64_t num_samples, uint64_t seed) {
  MMOE_CHECK(num_samples >= 1 && bound >= 0) << num_samples << ", " << bound;
  if (!is_nested(order, chunks.size())) return std::nullopt;
  if (room < 0) return TailProbability{1, 0};
  const MicroBatchLaw law(chunks, kind, bound);
  if (const std::optional<double> exact = exact_tail(law, order, room)) return TailProbability{*exact, 0};
  return sampled_tail(law, order, room, num_samples, seed);
}

}  // namespace mmoe
