#include "train/parallel/process_groups.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef MMOE_WITH_CUDA
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// This host's address on the way to `host`, as the system's routes say; no packet is sent. Empty where there is none.
std::string address_towards(const char* host) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host, "9", &hints, &found) != 0) return "";
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int descriptor = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (descriptor < 0) continue;
    sockaddr_storage own = {};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST] = "";
    if (connect(descriptor, address->ai_addr, address->ai_addrlen) != 0 ||
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size) != 0 ||
        getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) {
      text[0] = '\0';
    }
    close(descriptor);
    if (text[0] != '\0') return text;
  }
  return "";
}

// The network device that Gloo binds: GLOO_SOCKET_IFNAME as in PyTorch, else the one on the way to MASTER_ADDR.
std::shared_ptr<gloo::transport::Device> gloo_device() {
  const char* const interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface != nullptr && *interface != '\0') {
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  }
  const char* const master = std::getenv("MASTER_ADDR");
  const std::string address = address_towards(master == nullptr ? "127.0.0.1" : master);
  return address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                         : c10d::ProcessGroupGloo::createDeviceForHostname(address);
}

c10::intrusive_ptr<c10d::Backend> connect_backend(c10::Device device, const c10::intrusive_ptr<c10d::Store>& store,
                                                  int rank, int size, std::chrono::seconds timeout) {
#ifdef MMOE_WITH_CUDA
  if (device.is_cuda()) {
    const auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  }
#endif
  MMOE_CHECK(device.is_cpu()) << "built without CUDA";
  // Gloo waits five times as long for a connection as for a collective.
  const auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout) / 5);
  options->devices.push_back(gloo_device());
  const auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  backend->setTimeout(timeout);
  return backend;
}

}  // namespace

std::vector<const Communicator*> ProcessGroups::connected() const {
  std::vector<const Communicator*> found;
  for (const Communicator* group :
       {&world, &tensor, &context, &tensor_context, &data, &whole_stage, &expert, &expert_tensor, &expert_data,
        &forward, &forward_around, &backward, &backward_around}) {
    if (group->size() > 1) found.push_back(group);
  }
  return found;
}

const Communicator& ProcessGroups::holders(ParameterGroup group) const {
  if (group == ParameterGroup::kSplitExperts) return expert_data;
  return group == ParameterGroup::kSplitTensors || tensor.size() == 1 ? data : whole_stage;
}

const Communicator& ProcessGroups::token_group() const {
  return context.size() == 1 ? tensor : tensor.size() == 1 ? context : tensor_context;
}

const ProcessGroups& no_groups() {
  static const ProcessGroups groups;
  return groups;
}

Job on_one_device(Job job) {
  job.parallelism = {};
  job.hardware.num_devices = 1;
  return job;
}

c10::intrusive_ptr<c10d::Store> connect_store(const LaunchEnvironment& launch, std::chrono::seconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = !launch.launcher_serves && launch.rank == 0;
  options.numWorkers = static_cast<size_t>(launch.world_size);
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(launch.address, options);
  } catch (const std::exception&) {
    throw ConfigError("rank " + std::to_string(launch.rank) + ": no store answers at " + launch.address + ":" +
                      std::to_string(launch.port) + " within " + std::to_string(timeout.count()) +
                      " s; check MASTER_ADDR and MASTER_PORT, and that rank 0 runs");
  }
}

ProcessGroups make_groups(const Job& job, int64_t rank, const MakeBackend& make_backend) {
  ProcessGroups groups;
  groups.rank = rank;
  groups.world_size = job.hardware.num_devices;
  groups.layout = rank_groups(job.parallelism, job.hardware.num_devices);
  const auto connect = [&](const char* name, const RankGroup& group) {
    if (group.size == 1) return Communicator();
    const int64_t position = position_in(group, rank);
    return Communicator(name, make_backend(name, rank - position * group.stride, static_cast<int>(position),
                                           static_cast<int>(group.size)));
  };
  groups.world = connect("world", groups.layout.world);
  groups.tensor = connect("tensor", groups.layout.tensor);
  groups.context = connect("context", groups.layout.context);
  if (job.parallelism.tensor > 1 && job.parallelism.context > 1) {
    groups.tensor_context = connect("tensor_context", *group_named(groups.layout, "tensor_context"));
  }
  groups.data = connect("data", groups.layout.data_context);
  if (job.parallelism.tensor > 1) groups.whole_stage = connect("stage", groups.layout.stage);
  groups.expert = connect("expert", groups.layout.expert);
  groups.expert_tensor = connect("expert_tensor", groups.layout.expert_tensor);
  groups.expert_data = connect("expert_data", groups.layout.expert_data);
  groups.forward = connect("forward", groups.layout.pipeline);
  groups.backward = connect("backward", groups.layout.pipeline);
  if (job.parallelism.virtual_pipeline > 1) {
    groups.forward_around = connect("forward_around", groups.layout.pipeline);
    groups.backward_around = connect("backward_around", groups.layout.pipeline);
  }
  return groups;
}

ProcessGroups connect_groups(const Job& job, int64_t rank, c10::Device device,
                             const c10::intrusive_ptr<c10d::Store>& store, std::chrono::seconds timeout) {
  return make_groups(job, rank, [&](const char* name, int64_t first_rank, int position, int size) {
    const std::string prefix = std::string(name) + "/" + std::to_string(first_rank);
    try {
      return connect_backend(device, c10::make_intrusive<c10d::PrefixStore>(prefix, store), position, size, timeout);
    } catch (const std::exception&) {
      throw ConfigError(std::string("the ") + name + " group of " + std::to_string(size) +
                        " ranks did not come together within " + std::to_string(timeout.count()) +
                        " s; check that all " + std::to_string(job.hardware.num_devices) +
                        " ranks run the same job and that hosts reach each other; GLOO_SOCKET_IFNAME or "
                        "NCCL_SOCKET_IFNAME names the network interface");
    }
  });
}

}  // namespace mmoe
