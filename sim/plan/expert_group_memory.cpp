#include "sim/plan/expert_group_memory.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "sim/memory/layer_memory.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kRounding = 1e-6;  // bytes

// constant + per_k k + per_received received + per_gathered gathered, in bytes, k and pairs.
struct Plane {
  double constant = 0, per_k = 0, per_received = 0, per_gathered = 0;
  double at(double k, double received, double gathered) const {
    return constant + per_k * k + per_received * received + per_gathered * gathered;
  }
};

struct Range {
  double least = 0, most = 0;
  std::array<double, 3> nodes() const { return {least, (least + most) / 2, most}; }
};

// Nowhere below `bytes` in the box: exactly where it is a plane, and else where it is convex, as a maximum of planes
// is. Without `apart` all that is gathered is what is received.
Plane plane_above(const std::function<double(int k, double received, double gathered)>& bytes, int k_min, int k_max,
                  Range received, Range gathered, bool apart) {
  Plane plane;
  const auto slope = [](double more, double less, double range) { return range > 0 ? (more - less) / range : 0; };
  const auto value = [&](int k, double r, double g) { return bytes(k, r, apart ? g : r); };
  for (const int k : {k_min, k_max}) {
    plane.per_received += slope(value(k, received.most, gathered.most), value(k, received.least, gathered.most),
                                received.most - received.least) /
                          2;
    if (apart) {
      plane.per_gathered += slope(value(k, received.most, gathered.most), value(k, received.most, gathered.least),
                                  gathered.most - gathered.least) /
                            2;
    }
  }
  for (const double share : {0.0, 1.0}) {
    const double r = received.least + share * (received.most - received.least);
    const double g = gathered.least + share * (gathered.most - gathered.least);
    plane.per_k += slope(value(k_max, r, g), value(k_min, r, g), k_max - k_min) / 2;
  }
  double constant = -INFINITY;
  for (const int k : {k_min, (k_min + k_max) / 2, k_max}) {
    for (const double r : received.nodes()) {
      for (const double g : gathered.nodes()) constant = std::max(constant, value(k, r, g) - plane.at(k, r, g));
    }
  }
  plane.constant = constant;
  return plane;
}

// A replica of the group as one rank sees it: how many of its ranks send rows to the rank, and how many to it and to
// all that hold parts of the same experts.
struct Member {
  bool own = false;
  int64_t receives = 0, gathers = 0;
  bool operator<(const Member& other) const {
    return std::tuple(own, receives, gathers) < std::tuple(other.own, other.receives, other.gathers);
  }
};

// One rank's moments.
class RankMoments {
 public:
  RankMoments(const Job& job, const ExpertPairs& pairs, int64_t rank, double persistent)
      : job_(job), pairs_(pairs), groups_(rank_groups(job.parallelism, job.hardware.num_devices)) {
    position_ = position_in(groups_.expert, rank);
    const int64_t sharing = groups_.expert.size * groups_.expert_tensor.size, first = rank / sharing * sharing;
    std::map<int64_t, Member> by_replica;
    for (int64_t other = first; other < first + sharing; ++other) {
      const int64_t replica = position_in(groups_.data, other);
      Member& member = by_replica[replica];
      member.own = replica == position_in(groups_.data, rank);
      member.receives += (other - rank) % groups_.expert.stride == 0;
      ++member.gathers;
    }
    for (const auto& [replica, member] : by_replica) ++members_[member];
    play(persistent);
  }

  // Moments that some draw makes the highest, and what no draw takes away.
  std::vector<DrawnPeak> peaks(double ranks) const {
    std::vector<DrawnPeak> result;
    for (size_t i = 0; i < moments_.size(); ++i) {
      bool highest_somewhere = true;
      for (size_t j = 0; j < moments_.size() && highest_somewhere; ++j) {
        const double lead = most_above(moments_[i], moments_[j]);
        // Of two that are always alike the later one stays.
        highest_somewhere = i == j || lead > kRounding || (lead > -kRounding && j < i);
      }
      if (!highest_somewhere) continue;
      result.push_back(moments_[i]);
      result.back().ranks = ranks;
    }
    return result;
  }
  double least() const { return least_; }

 private:
  void play(double persistent) {
    double fixed = persistent + residual_bytes(job_);
    std::vector<Plane> kept;  // of the MoE layers passed
    const auto add = [&](double base, const std::vector<Plane>& planes) {
      if (planes.empty()) {
        least_ = std::max(least_, base);
      } else {
        moments_.push_back(moment(base, planes));
      }
    };
    for (int64_t layer = 0; layer < job_.model.num_layers; ++layer) {
      if (!job_.model.is_moe_layer(layer)) {
        const LayerMemory memory = layer_memory(job_, layer, 0);
        add(fixed + std::max(sum_of(memory.forward_peak), sum_of(memory.backward_peak)), kept);
        fixed += memory.kept;
        continue;
      }
      std::vector<Plane> at_work = kept;
      at_work.push_back(plane_of(layer, [](const LayerMemory& memory) {
        return std::max(sum_of(memory.forward_peak), sum_of(memory.backward_peak));
      }));
      add(fixed, at_work);
      kept.push_back(plane_of(layer, [](const LayerMemory& memory) { return memory.kept; }));
    }
    add(fixed + sum_of(loss_head_peak(job_)), kept);
  }

  Plane plane_of(int64_t layer, const std::function<double(const LayerMemory&)>& bytes) const {
    const int64_t moe_layer = layer - job_.model.num_dense_layers;
    double least = INFINITY, most = 0, receives = 0, gathers = 0;
    for (int k = job_.elastic.k_min; k <= job_.elastic.k_max; ++k) {
      least = std::min(least, pairs_.at(position_, moe_layer, k));
      most = std::max(most, pairs_.at(position_, moe_layer, k));
    }
    for (const auto& [member, count] : members_) {
      receives += static_cast<double>(count * member.receives * own_tokens(job_));
      gathers += static_cast<double>(count * member.gathers * own_tokens(job_));
    }
    return plane_above(
        [&](int k, double r, double g) {
          return bytes(layer_memory(job_, layer, k, {r, g}));
        },
        job_.elastic.k_min, job_.elastic.k_max, {receives * least, receives * most}, {gathers * least, gathers * most},
        groups_.expert_tensor.size > 1);
  }

  // `planes` of the first MoE layers.
  DrawnPeak moment(double base, const std::vector<Plane>& planes) const {
    DrawnPeak peak{base, {}, 1};
    for (const Plane& plane : planes) peak.base += plane.constant;
    const auto choices = static_cast<size_t>(job_.elastic.k_max - job_.elastic.k_min + 1);
    const auto tokens = static_cast<double>(own_tokens(job_));
    for (const auto& [member, count] : members_) {
      DrawCosts draws{LayerCosts(static_cast<size_t>(job_.model.num_moe_layers()), std::vector<double>(choices, 0)),
                      count};
      for (size_t l = 0; l < planes.size(); ++l) {
        for (size_t j = 0; j < choices; ++j) {
          const int k = job_.elastic.k_min + static_cast<int>(j);
          const double pairs = pairs_.at(position_, static_cast<int64_t>(l), k) * tokens;
          draws.costs[l][j] = (member.own ? planes[l].per_k * k : 0) +
                              pairs * (planes[l].per_received * static_cast<double>(member.receives) +
                                       planes[l].per_gathered * static_cast<double>(member.gathers));
        }
      }
      peak.draws.push_back(std::move(draws));
    }
    return peak;
  }

  // The most that `a` is above `b` at any draw.
  static double most_above(const DrawnPeak& a, const DrawnPeak& b) {
    double sum = a.base - b.base;
    for (size_t d = 0; d < a.draws.size(); ++d) {
      for (size_t l = 0; l < a.draws[d].costs.size(); ++l) {
        double most = -INFINITY;
        for (size_t j = 0; j < a.draws[d].costs[l].size(); ++j) {
          most = std::max(most, a.draws[d].costs[l][j] - b.draws[d].costs[l][j]);
        }
        sum += most * static_cast<double>(a.draws[d].count);
      }
    }
    return sum;
  }

  const Job& job_;
  const ExpertPairs& pairs_;
  RankGroups groups_;
  int64_t position_ = 0;
  std::map<Member, int64_t> members_;  // and how many replicas are like it
  double least_ = 0;
  std::vector<DrawnPeak> moments_;
};

// [expert position] -> the replicas of the first group's ranks that have it.
std::map<int64_t, std::set<int64_t>> replicas_by_position(const RankGroups& groups) {
  std::map<int64_t, std::set<int64_t>> replicas;
  for (int64_t rank = 0; rank < groups.expert.size * groups.expert_tensor.size; ++rank) {
    replicas[position_in(groups.expert, rank)].insert(position_in(groups.data, rank));
  }
  return replicas;
}

}  // namespace

int64_t replicas_in_expert_group(const Job& job) {
  std::set<int64_t> all;
  for (const auto& [position, replicas] :
       replicas_by_position(rank_groups(job.parallelism, job.hardware.num_devices))) {
    all.insert(replicas.begin(), replicas.end());
  }
  return static_cast<int64_t>(all.size());
}

GroupMemory expert_group_memory(const Job& job, const ExpertPairs& pairs) {
  MMOE_CHECK(job.parallelism.pipeline == 1 && job.elastic.k_max > job.elastic.k_min) << job.parallelism.pipeline;
  const double persistent = trainer_stage_memory(job, ExpertPairs(job, 1)).constant;
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  GroupMemory memory;
  memory.num_layers = job.model.num_moe_layers();
  for (const auto& [position, replicas] : replicas_by_position(groups)) {
    if (position >= pairs.num_ranks()) break;
    const RankMoments moments(job, pairs, position * groups.expert.stride, persistent);
    // Where one stands for all, every replica's rank at any position is like it.
    const int64_t ranks =
        pairs.num_ranks() == 1 ? replicas_in_expert_group(job) : static_cast<int64_t>(replicas.size());
    memory.least = std::max(memory.least, moments.least());
    for (DrawnPeak& peak : moments.peaks(static_cast<double>(ranks))) memory.peaks.push_back(std::move(peak));
  }
  return memory;
}

}  // namespace mmoe
