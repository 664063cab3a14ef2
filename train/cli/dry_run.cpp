#include "train/cli/dry_run.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "sim/cli/table.h"
#include "sim/plan/trainer_ranks.h"
#include "train/loop/dry_run.h"
#include "train/loop/job_requirements.h"

namespace mmoe {
namespace {

// A row of the tables: calls or bytes, counted and predicted.
struct Message {
  std::string group, collective;
  CollectiveTraffic counted, predicted;
};

std::vector<Message> messages_of(const DryRun& run) {
  std::set<std::pair<std::string, std::string>> names;
  for (const TrafficByGroup* side : {&run.counted_messages, &run.predicted_messages}) {
    for (const auto& [group, collectives] : *side) {
      for (const auto& entry : collectives) names.emplace(group, entry.first);
    }
  }
  const auto find = [](const TrafficByGroup& side, const std::string& group, const std::string& collective) {
    const auto found = side.find(group);
    if (found == side.end() || !found->second.contains(collective)) return CollectiveTraffic{};
    return found->second.at(collective);
  };
  std::vector<Message> messages;
  for (const auto& [group, collective] : names) {
    messages.push_back({group, collective, find(run.counted_messages, group, collective),
                        find(run.predicted_messages, group, collective)});
  }
  return messages;
}

struct Cause {
  const char* name;  // as in JSON, without _bytes
  const char* text;
  double counted, predicted;
};

std::vector<Cause> causes_of(const DryRun& run) {
  const DryRunMemory &a = run.counted, &b = run.predicted;
  return {{"weights", "weights", a.weights, b.weights},
          {"gradients", "gradients", a.gradients, b.gradients},
          {"optimizer", "optimizer", a.optimizer, b.optimizer},
          {"buffers", "buffers", a.buffers, b.buffers},
          {"activations", "activations, work", a.activations, b.activations},
          {"peak_allocated", "peak allocated", a.peak(), b.peak()}};
}

std::string signed_percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%+.2f %%", 100 * fraction);
  return text;
}

// Whether the tensors alone pass what the job may use of a GPU; the CPU of a cluster is not this machine's.
bool passes_limit(const DryRun& run, const Job& job) {
  return !job.hardware.spec.is_cpu && job.hardware.usable_memory.value > 0 &&
         run.counted.peak() > job.hardware.usable_memory.value;
}

// What is wrong; empty where nothing is.
std::string disagreement(const DryRun& run, const Job& job) {
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
  for (const Message& message : messages_of(run)) {
    if (message.counted == message.predicted) continue;
    add(message.group + " " + message.collective + ": " + std::to_string(message.counted.calls) + " calls of " +
        std::to_string(message.counted.bytes) + " bytes, predicted " + std::to_string(message.predicted.calls) +
        " of " + std::to_string(message.predicted.bytes));
  }
  if (!run.peak_agrees()) {
    add("its peak is predicted " + signed_percent(run.peak_error()) + " off, more than " + percent(kDryRunPeakBound));
  }
  if (passes_limit(run, job)) {
    add("its tensors alone take " + to_string(Bytes{run.counted.peak()}) + " of " +
        to_string(job.hardware.usable_memory) + " usable on " + job.hardware.device);
  }
  return text;
}

// `wrong` here and below: as disagreement() says.
nlohmann::ordered_json to_json(const DryRun& run, const Job& job, int64_t step, const std::string& wrong) {
  nlohmann::ordered_json memory, messages = nlohmann::ordered_json::object();
  for (const Cause& cause : causes_of(run)) {
    memory[std::string(cause.name) + "_bytes"] = {{"counted", cause.counted}, {"predicted", cause.predicted}};
  }
  const auto both = [](const CollectiveTraffic& traffic) {
    return nlohmann::ordered_json{{"calls", traffic.calls}, {"bytes", traffic.bytes}};
  };
  for (const Message& message : messages_of(run)) {
    messages[message.group][message.collective] = {{"counted", both(message.counted)},
                                                   {"predicted", both(message.predicted)}};
  }
  return {{"agrees", run.peak_agrees() && run.messages_agree()},
          {"fits", !passes_limit(run, job)},
          {"reason", wrong.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(wrong)},
          {"rank", run.rank},
          {"stage", run.stage},
          {"num_devices", job.hardware.num_devices},
          {"device", job.hardware.device},
          {"step", step},
          {"memory", memory},
          {"moment", run.moment},
          {"peak_error_fraction", run.peak_error()},
          {"peak_bound_fraction", kDryRunPeakBound},
          {"messages", messages},
          {"seconds", run.seconds}};
}

void print(const DryRun& run, const Job& job, int64_t step, const std::string& wrong, std::ostream& out) {
  out << job.where << ": rank " << run.rank << " of " << job.hardware.num_devices << " (stage " << run.stage << ") "
      << (wrong.empty() ? "agrees with its plan: messages exactly, peak within " + percent(kDryRunPeakBound)
                        : "DIFFERS: " + wrong)
      << "\n\nMemory at the peak of step " << step << " (predicted at: " << run.moment << ")\n";
  Table memory{.header = {"GiB", "counted", "predicted", "error"}, .rows = {}};
  const int decimals = gib_decimals(run.counted.peak());
  for (const Cause& cause : causes_of(run)) {
    memory.add({cause.text, in_gib(cause.counted, decimals), in_gib(cause.predicted, decimals),
                cause.counted == 0 ? "" : signed_percent(cause.predicted / cause.counted - 1)});
  }
  if (!job.hardware.spec.is_cpu) {
    memory.add({"usable on " + job.hardware.device, in_gib(job.hardware.usable_memory.value, decimals), "", ""});
  }
  print_table(memory, out, "  ");
  if (const std::vector<Message> messages = messages_of(run); !messages.empty()) {
    out << "\nMessages of the rank in the step\n";
    Table table{.header = {"group", "collective", "calls", "predicted", "bytes", "predicted"}, .rows = {}};
    for (const Message& message : messages) {
      table.add({message.group, message.collective, std::to_string(message.counted.calls),
                 std::to_string(message.predicted.calls), std::to_string(message.counted.bytes),
                 std::to_string(message.predicted.bytes)});
    }
    print_table(table, out, "  ");
  }
  if (!job.hardware.spec.is_cpu) {
    out << "\nAllocations follow the trainer's CUDA path. Memory of CUDA's context, cuBLAS and NCCL, and the caching "
           "allocator's rounding are in neither column.\n";
  }
  out << "\nOnly shapes ran, for " << significant(run.seconds, 2) << " s. Routed rows as training.moe.load says.\n";
}

int64_t rank_of(const Flags& flags, const Job& job) {
  const int64_t rank = flags.has("rank") ? flags.get<int64_t>("rank") : 0;
  if (rank >= 0 && rank < job.hardware.num_devices) return rank;
  throw ConfigError("--rank " + std::to_string(rank) + " is none of " + job.where +
                    ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) + "; give 0 to " +
                    std::to_string(job.hardware.num_devices - 1));
}

}  // namespace

void add_dry_run_flags(CommandLine& command) {
  command.options.add_options()("dry-run", po::bool_switch(),
                                "train nothing: run the shapes of one step of one rank, of any world, in this process "
                                "without device or data, and "
                                "compare what it allocates and sends with the plan; exit 3 where they differ")(
      "rank", po::value<int64_t>(), "--dry-run: the rank (default 0)")(
      "at-step", po::value<int64_t>(), "--dry-run: take the draws of k of this step (default 1)");
}

void check_dry_run_flags(const Flags& flags) {
  if (!flags.get<bool>("dry-run")) {
    for (const char* flag : {"rank", "at-step"}) {
      if (flags.has(flag)) {
        throw ConfigError(std::string("train: --") + flag +
                          " belongs to --dry-run; add that, or leave it out: ranks of a run are numbered by what "
                          "starts them");
      }
    }
    return;
  }
  if (flags.has("nproc")) {
    throw ConfigError("train: --nproc starts ranks, but --dry-run builds one in this process; leave one of them out");
  }
  if (flags.get<bool>("resume")) {
    throw ConfigError("train: --resume goes on with a run, but --dry-run trains nothing; leave one of them out");
  }
}

ExitCode dry_run_command(const Flags& flags, const Job& job) {
  check_trained_model(job);
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where +
                      ": elastic.sampling = top_p lets tokens decide how many experts are active, which "
                      "shapes do not say; use uniform with k_min and k_max for a dry run");
  }
  if (job.training.operations == OperationSet::kAten) {
    throw ConfigError(job.where +
                      ": training.operations = aten takes the routed rows from values, which shapes do not have; set "
                      "it to kernels for a dry run");
  }
  const int64_t rank = rank_of(flags, job), step = flags.has("at-step") ? flags.get<int64_t>("at-step") : 1;
  if (step < 1) throw ConfigError("--at-step " + std::to_string(step) + " is no step; give 1 or more");
  const auto draws = k_varies(job) ? std::optional<StepDraws>(std::in_place, job) : std::nullopt;
  const DryRun run = dry_run(job, rank, draws_of_all_replicas(job, draws, step));
  const std::string wrong = disagreement(run, job);
  if (flags.json()) {
    std::cout << to_json(run, job, step, wrong).dump(2) << '\n';
  } else {
    print(run, job, step, wrong, std::cout);
  }
  if (wrong.empty()) return ExitCode::kDone;
  std::cerr << job.where << ": rank " << rank << ": " << wrong << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
