#include "train/profiling/collective_profile.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "sim/units/errors.h"
#include "train/profiling/machine_peaks.h"
#include "train/profiling/profiler.h"

namespace mmoe {
namespace {

constexpr int kWarmup = 2, kRepetitions = 7;     // as ProfileOptions
constexpr double kMostBytes = 64.0 * (1 << 20);  // of a call's whole buffer
constexpr double kElement = 4;                   // bytes of a float
constexpr double kAbsent = -1;                   // seconds of a rank that has no part in a call

// One kind of collective of the groups of one name, at one size.
struct Call {
  const Communicator* group;
  CollectiveCall kind;
  int64_t calls = 0;     // in the run, all ranks together
  int64_t elements = 0;  // floats that a rank hands over
};

at::TensorOptions numbers(at::ScalarType type, c10::Device device) {
  return at::TensorOptions().dtype(type).device(device);
}

// What a size becomes in the measurement: whole floats, as many for each rank where they are shared out.
int64_t measured_elements(const Call& call, double bytes) {
  const auto ranks = static_cast<double>(call.group->size());
  if (call.kind == CollectiveCall::kAllGather) bytes = std::min(bytes, kMostBytes / ranks);
  const double elements = std::max(1.0, std::min(bytes, kMostBytes) / kElement);
  const bool is_shared = call.kind == CollectiveCall::kReduceScatter || call.kind == CollectiveCall::kAllToAll;
  return static_cast<int64_t>(is_shared ? ranks * std::ceil(elements / ranks) : std::round(elements));
}

// All calls of the run by group, kind and class of sizes, summed over ranks: the same list on every rank.
std::vector<Call> calls_of_run(const ProcessGroups& groups, c10::Device device) {
  const std::vector<const Communicator*> connected = groups.connected();
  const auto size = static_cast<int64_t>(connected.size());
  at::Tensor table = at::zeros({size, kNumCollectiveCalls, kNumSizeClasses, 2}, numbers(at::kLong, c10::kCPU));
  auto own = table.accessor<int64_t, 4>();
  for (int64_t i = 0; i < size; ++i) {
    for (int kind = 0; kind < kNumCollectiveCalls; ++kind) {
      for (int j = 0; j < kNumSizeClasses; ++j) {
        const SizeClass& sizes = connected[static_cast<size_t>(i)]->sizes()[kind][static_cast<size_t>(j)];
        own[i][kind][j][0] = sizes.calls;
        own[i][kind][j][1] = sizes.bytes;
      }
    }
  }
  table = table.to(device);
  groups.world.all_reduce(table).wait();
  table = table.to(c10::kCPU);
  const auto all = table.accessor<int64_t, 4>();
  std::vector<Call> calls;
  for (int64_t i = 0; i < size; ++i) {
    for (int kind = 0; kind < kNumCollectiveCalls; ++kind) {
      if (static_cast<CollectiveCall>(kind) == CollectiveCall::kReceive) continue;  // the other end of a send
      for (int j = 0; j < kNumSizeClasses; ++j) {
        const int64_t count = all[i][kind][j][0], bytes = all[i][kind][j][1];
        if (count == 0 || bytes == 0) continue;
        Call call{connected[static_cast<size_t>(i)], static_cast<CollectiveCall>(kind), count, 0};
        call.elements = measured_elements(call, static_cast<double>(bytes) / static_cast<double>(count));
        calls.push_back(call);
      }
    }
  }
  return calls;
}

// Positions in a pipeline's group: -1 for none.
struct Neighbours {
  int64_t to = -1, from = -1;
};
Neighbours neighbours(const Communicator& group) {
  const int64_t own = group.rank(), last = group.size() - 1;
  if (group.name() == "forward") return {own < last ? own + 1 : -1, own - 1};
  if (group.name() == "backward") return {own - 1, own < last ? own + 1 : -1};
  const bool forward = group.name() == "forward_around";
  MMOE_CHECK(forward || group.name() == "backward_around") << group.name();
  const int64_t sender = forward ? last : 0, receiver = forward ? 0 : last;
  return {own == sender ? receiver : -1, own == receiver ? sender : -1};
}

// Runs calls on this rank.
class Runner {
 public:
  Runner(const ProcessGroups& groups, c10::Device device)
      : world_(groups.world), device_(device), one_(at::zeros({1}, numbers(at::kFloat, device))) {}

  // Seconds of each repetition.
  std::vector<double> run(const Call& call) {
    const int64_t ranks = call.group->size();
    const at::TensorOptions floats = numbers(at::kFloat, device_);
    const at::Tensor input = at::zeros({call.elements}, floats);
    at::Tensor out;
    if (call.kind == CollectiveCall::kReduceScatter) out = at::empty({call.elements / ranks}, floats);
    if (call.kind == CollectiveCall::kAllGather) out = at::empty({call.elements * ranks}, floats);
    if (call.kind == CollectiveCall::kAllToAll || call.kind == CollectiveCall::kSend) out = at::empty_like(input);
    std::vector<double> seconds;
    for (int run = 0; run < kWarmup + kRepetitions; ++run) {
      world_.all_reduce(one_).wait();
      synchronize();
      const double time = once(call, input, out);
      if (run >= kWarmup) seconds.push_back(time);
    }
    return seconds;
  }

 private:
  double once(const Call& call, const at::Tensor& input, const at::Tensor& out) {
    const Communicator& group = *call.group;
    if (call.kind == CollectiveCall::kSend) return send_once(group, input, out);
    const std::vector<int64_t> rows(static_cast<size_t>(group.size()), input.numel() / group.size());
    const auto begin = std::chrono::steady_clock::now();
    switch (call.kind) {
      case CollectiveCall::kReduceScatter:
        group.reduce_scatter(out, input).wait();
        break;
      case CollectiveCall::kAllGather:
        group.all_gather(out, input).wait();
        break;
      case CollectiveCall::kAllToAll:
        group.all_to_all(out, input, rows, rows).wait();
        break;
      default:
        group.all_reduce(input).wait();
    }
    return since(begin);
  }

  // To the next of the pipeline, from the one before.
  double send_once(const Communicator& group, const at::Tensor& input, const at::Tensor& out) {
    const Neighbours next = neighbours(group);
    PendingTransfer receive, send;
    const auto begin = std::chrono::steady_clock::now();
    if (next.from >= 0) receive = group.receive(out, next.from, 0);
    if (next.to >= 0) send = group.send(input, next.to, 0);
    receive.wait();
    const double seconds = since(begin);
    send.wait();
    synchronize();
    return next.from >= 0 ? seconds : kAbsent;
  }

  void synchronize() const {
    if (!device_.is_cpu()) c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
  }

  double since(std::chrono::steady_clock::time_point begin) const {
    synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  const Communicator& world_;
  c10::Device device_;
  at::Tensor one_;
};

// One number that is the same on two ranks where they share a host.
int64_t host_number() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return static_cast<int64_t>(std::hash<std::string>()(name));
}

// `own` of every rank, [world size][own's size], on the CPU.
at::Tensor from_all(const ProcessGroups& groups, const at::Tensor& own, c10::Device device) {
  const at::Tensor all = at::empty({groups.world_size * own.numel()}, own.options().device(device));
  groups.world.all_gather(all, own.flatten().to(device)).wait();
  return all.to(c10::kCPU).reshape({groups.world_size, own.numel()});
}

// First rank of the group that a rank belongs to.
int64_t first_of(const RankGroup& group, int64_t rank) { return rank - position_in(group, rank) * group.stride; }

// The seconds of one repetition, of all ranks: the last of each group to come, the slowest receiver, the slowest group.
double slowest_group(const Call& call, const RankGroup& group, const std::vector<double>& by_rank) {
  if (call.kind == CollectiveCall::kSend) return *std::max_element(by_rank.begin(), by_rank.end());
  std::map<int64_t, double> shortest;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    double& least = shortest.try_emplace(first_of(group, static_cast<int64_t>(rank)), by_rank[rank]).first->second;
    least = std::min(least, by_rank[rank]);
  }
  double slowest = 0;
  for (const auto& [first, seconds] : shortest) slowest = std::max(slowest, seconds);
  return slowest;
}

bool stays_within_host(const RankGroup& group, const at::Tensor& hosts) {
  const auto host = hosts.accessor<int64_t, 2>();
  for (int64_t rank = 0; rank < hosts.size(0); ++rank) {
    if (host[rank][0] != host[first_of(group, rank)][0]) return false;
  }
  return true;
}

}  // namespace

Profile profile_collectives(const Job& job, const ProcessGroups& groups, c10::Device device) {
  MMOE_CHECK(!groups.is_alone());
  const std::vector<Call> calls = calls_of_run(groups, device);
  const auto num_calls = static_cast<int64_t>(calls.size());
  const at::Tensor own = at::empty({num_calls, kRepetitions}, numbers(at::kDouble, c10::kCPU));
  Runner runner(groups, device);
  for (int64_t i = 0; i < num_calls; ++i) {
    const std::vector<double> seconds = runner.run(calls[static_cast<size_t>(i)]);
    for (int64_t j = 0; j < kRepetitions; ++j) own.accessor<double, 2>()[i][j] = seconds[static_cast<size_t>(j)];
  }
  const at::Tensor hosts = from_all(groups, at::full({1}, host_number(), numbers(at::kLong, c10::kCPU)), device);
  const at::Tensor all = from_all(groups, own, device);
  Profile profile;
  profile.machine = describe_machine(job, device);
  profile.jobs.push_back(to_json(job));
  if (groups.rank != 0) return profile;
  const auto seconds = all.accessor<double, 2>();
  for (int64_t i = 0; i < num_calls; ++i) {
    const Call& call = calls[static_cast<size_t>(i)];
    const RankGroup group = *group_named(groups.layout, call.group->name());
    std::vector<double> repetitions;
    for (int64_t j = 0; j < kRepetitions; ++j) {
      std::vector<double> by_rank;
      for (int64_t rank = 0; rank < groups.world_size; ++rank) by_rank.push_back(seconds[rank][i * kRepetitions + j]);
      repetitions.push_back(slowest_group(call, group, by_rank));
    }
    CollectiveRecord record;
    record.collective = name_of(call.kind);
    record.group = call.group->name();
    record.group_size = group.size;
    record.within_node = stays_within_host(group, hosts);
    record.calls = call.calls;
    record.bytes_per_call = Bytes{static_cast<double>(call.elements) * kElement};
    record.seconds = timing_of(std::move(repetitions));
    profile.collectives.push_back(std::move(record));
  }
  return profile;
}

}  // namespace mmoe
