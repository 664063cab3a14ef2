// mmoe study budget: trains the arms of a study over its seeds and says what the budget saved and cost.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "profiles/store/atomic_file.h"
#include "sim/cli/calibration_flag.h"
#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"
#include "sim/config/json_text.h"
#include "sim/study/study_results.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// A child failed or was stopped: its exit code, to become ours.
struct Stopped {
  int code;
};

class StudyRuns {
 public:
  StudyRuns(const BudgetStudy& study, const Flags& flags, const SignalForwarding& signals)
      : study_(study),
        signals_(signals),
        out_(fs::absolute(flags.get("out")).lexically_normal()),
        data_(fs::absolute(flags.get("data")).lexically_normal()),
        program_(program_folder() + "/mmoe") {
    if (flags.has("threads")) threads_ = {"--threads", std::to_string(flags.get<int64_t>("threads"))};
  }

  // Trains and evaluates one arm with one seed, unless that was done before. Returns its result.
  nlohmann::json run(const ResolvedArm& arm, int64_t seed, const std::string& ks) const {
    const fs::path folder = arm_folder(arm) / ("seed_" + std::to_string(seed));
    Job job = arm.job;
    job.training.seed = static_cast<uint64_t>(seed);
    const nlohmann::json description = run_description(job);
    const fs::path result_path = folder / "result.json";
    if (fs::exists(result_path)) {
      nlohmann::json result = read_json_file(result_path.string());
      if (result.at("run") == description) return result;
      throw ConfigError(result_path.string() + " is of another study; choose another --out");
    }
    fs::create_directories(folder);
    const std::string job_file = (folder / "study_job.json").string();
    write_file_atomically(job_file, description.at("job").dump(2) + "\n");
    Words train = {"train",
                   "--job",
                   job_file,
                   "--data",
                   data_.string(),
                   "--out",
                   folder.string(),
                   "--steps",
                   std::to_string(arm.steps),
                   "--replay-reserved"};
    if (fs::exists(folder / "checkpoints") && !fs::is_empty(folder / "checkpoints")) train.push_back("--resume");
    call(train, ChildOutput::kToStandardError);
    nlohmann::json result = run_measurements((folder / "metrics.jsonl").string(), arm.steps);
    result["run"] = description;
    const int64_t tokens = job.training.global_batch_size * job.training.seq_len;
    for (int64_t i = 1; i <= study_.evaluations; ++i) {
      const int64_t step = i == study_.evaluations ? arm.steps : i * job.training.checkpoint_interval;
      const Words eval = {"eval",
                          "--checkpoint",
                          (folder / "checkpoints" / ("step_" + std::to_string(step))).string(),
                          "--data",
                          data_.string(),
                          "--split",
                          "valid",
                          "--k",
                          ks,
                          "--max-sequences",
                          std::to_string(study_.eval_sequences),
                          "--json"};
      const nlohmann::json evaluation = nlohmann::json::parse(call(eval, ChildOutput::kCapture));
      result["evaluations"].push_back({{"step", step},
                                       {"tokens", step * tokens},
                                       {"evaluated_tokens", evaluation.at("tokens")},
                                       {"loss_by_k", evaluation.at("loss_by_k")}});
    }
    write_file_atomically(result_path.string(), result.dump(1) + "\n");
    fs::remove_all(folder / "checkpoints");  // weights are no result, and many runs would fill a disk
    return result;
  }

  // Runs of a few steps of every arm in turns, so that a machine that slows down slows all arms. Kept by round.
  nlohmann::json timing(const std::vector<ResolvedArm>& arms) const {
    nlohmann::json records = nlohmann::json::array();
    const fs::path folder = arm_folder(arms.front()).parent_path() / "timing";
    for (int64_t round = 0; round < study_.timing_rounds; ++round) {
      const fs::path path = folder / ("round_" + std::to_string(round) + ".json");
      if (!fs::exists(path)) write_file_atomically(path.string(), timing_round(arms, round, folder).dump() + "\n");
      const nlohmann::json kept = read_json_file(path.string());
      records.insert(records.end(), kept.begin(), kept.end());
    }
    return records;
  }

  const fs::path& out() const { return out_; }

 private:
  fs::path arm_folder(const ResolvedArm& arm) const {
    return out_ / ("layers_" + std::to_string(arm.depth)) / arm.name;
  }

  // Everything that decides a run's numbers; not what memory this machine happens to have.
  nlohmann::json run_description(const Job& job) const {
    nlohmann::json json = to_json(job);
    json["hardware"].erase("usable_memory_gib");
    json.erase("data");
    json.erase("loop");
    return {{"job", json}, {"evaluations", study_.evaluations}, {"eval_sequences", study_.eval_sequences}};
  }

  nlohmann::json timing_round(const std::vector<ResolvedArm>& arms, int64_t round, const fs::path& folder) const {
    fs::create_directories(folder);
    nlohmann::json records = nlohmann::json::array();
    for (size_t i = 0; i < arms.size(); ++i) {
      const ResolvedArm& arm = arms[(i + static_cast<size_t>(round)) % arms.size()];
      const fs::path scratch = folder / ("run_" + arm.name);
      fs::remove_all(scratch);
      fs::create_directories(scratch);
      Job job = arm.job;
      job.training.seed = static_cast<uint64_t>(round + 1);
      job.training.checkpoint_interval = 0;
      const std::string job_file = (scratch / "study_job.json").string();
      write_file_atomically(job_file, run_description(job).at("job").dump() + "\n");
      call({"train", "--job", job_file, "--data", data_.string(), "--out", scratch.string(), "--steps",
            std::to_string(study_.timing_warmup_steps + study_.timing_steps)},
           ChildOutput::kToStandardError);
      records.push_back({{"round", round},
                         {"arm", arm.name},
                         {"seconds", step_seconds((scratch / "metrics.jsonl").string(), study_.timing_warmup_steps)}});
      fs::remove_all(scratch);
    }
    return records;
  }

  // Runs `mmoe WORDS --threads ...`; returns what it printed. Throws Stopped.
  std::string call(const Words& words, ChildOutput output) const {
    Words command = {program_};
    command.insert(command.end(), words.begin(), words.end());
    command.insert(command.end(), threads_.begin(), threads_.end());
    const ChildResult child = run_child(command, output);
    if (signals_.received() != 0) throw Stopped{128 + signals_.received()};
    if (child.signal != 0)
      throw RunFailure("mmoe " + words.front() + " was killed by signal " + std::to_string(child.signal) +
                       "; run the same command again to go on");
    if (child.exit_code != 0) throw Stopped{child.exit_code};
    return child.output;
  }

  const BudgetStudy& study_;
  const SignalForwarding& signals_;
  fs::path out_, data_;
  std::string program_;
  Words threads_;
};

// "1,2,6": the numbers of active experts that the baseline draws.
std::string evaluated_k(const ElasticConfig& elastic) {
  std::string list;
  for (int k = elastic.k_min; k <= elastic.k_max; ++k) {
    if (!list.empty()) list += ',';
    list += std::to_string(k);
  }
  return list;
}

std::string plus_minus(const nlohmann::json& summary, double factor, int digits) {
  const double half =
      (summary.at("high").is_null() ? NAN : summary.at("high").get<double>()) - summary.at("mean").get<double>();
  return significant(factor * summary.at("mean").get<double>(), digits) + " +- " + significant(factor * half, 2);
}

void print_depth(const nlohmann::json& depth, std::ostream& out) {
  out << '\n' << depth.at("num_layers") << " layers, " << depth.at("steps") << " steps\n";
  Table table{.header = {"arm", "mean k", "KL/layer", "saving p99", "predicted", "worst-k loss", "difference",
                         "verdict", "speed"},
              .rows = {}};
  for (const nlohmann::json& arm : depth.at("arms")) {
    const nlohmann::json& quality = arm.at("quality");
    const nlohmann::json& kl = arm.at("kl_per_layer");
    const bool trained = !quality.is_null();
    table.add({arm.at("name"), significant(arm.at("mean_k"), 3), kl.is_null() ? "-" : significant(kl, 2),
               percent(arm.at("/measured/peak_allocated_bytes/saving/p99/mean"_json_pointer)),
               arm.contains("predicted") ? percent(arm.at("/predicted/saving/p99"_json_pointer)) : "-",
               trained ? significant(quality.at("worst_k_loss"), 4) : "-",
               trained ? plus_minus(quality.at("worst_k_difference"), 1, 2) : "-",
               trained ? quality.at("verdict").get<std::string>() : "-",
               arm.at("timing").is_null() ? "-" : plus_minus(arm.at("timing").at("speed_ratio"), 1, 4)});
  }
  print_table(table, out, "  ");
}

ExitCode study_budget(const Flags& flags) {
  const BudgetStudy study = load_study(flags.get("study"));
  std::vector<int64_t> seeds = study.seeds;
  if (flags.has("seeds")) {
    seeds.clear();
    for (const double seed : parse_numbers(flags.get("seeds"), "seeds")) {
      seeds.push_back(static_cast<int64_t>(seed));
      if (std::find(study.seeds.begin(), study.seeds.end(), seeds.back()) == study.seeds.end()) {
        throw ConfigError("--seeds " + flags.get("seeds") + ": " + std::to_string(seeds.back()) +
                          " is not among the seeds of " + study.where);
      }
    }
  }
  const SignalForwarding signals;
  const StudyRuns runs(study, flags, signals);
  std::map<int64_t, std::vector<ResolvedArm>> arms;
  for (const int64_t depth : study.depths) {
    const Job job = parse_job(study.job, study.where, study.folder, {{"model.num_layers", std::to_string(depth)}});
    arms[depth] = resolve_arms(study, depth, calibration_for(flags, job));
  }
  const size_t total = study.depths.size() * seeds.size() * study.arms.size();
  size_t count = 0;
  std::map<int64_t, std::map<std::string, std::map<int64_t, nlohmann::json>>> results;
  for (const int64_t seed : seeds) {
    for (const auto& [depth, of_depth] : arms) {
      for (const ResolvedArm& arm : of_depth) {
        std::cerr << "study " << ++count << '/' << total << ": " << depth << " layers, seed " << seed << ", "
                  << arm.name << std::endl;
        results[depth][arm.name][seed] = runs.run(arm, seed, evaluated_k(of_depth.front().job.elastic));
      }
    }
  }
  if (flags.has("seeds")) {
    std::cerr << "study: these seeds are done; the same command without --seeds adds the others and the summary\n";
    return ExitCode::kDone;
  }
  nlohmann::json summary = {{"question", study.question},
                            {"margin", study.margin},
                            {"seeds", study.seeds},
                            {"timing_rounds", study.timing_rounds},
                            {"timing_steps", study.timing_steps},
                            {"depths", nlohmann::json::array()}};
  for (const auto& [depth, of_depth] : arms) {
    std::cerr << "study: timing at " << depth << " layers" << std::endl;
    summary["depths"].push_back(summarize_depth(study, of_depth, results.at(depth), runs.timing(of_depth)));
  }
  write_file_atomically((runs.out() / "study.json").string(), summary.dump(1) + "\n");
  if (flags.json()) {
    std::cout << summary.dump(2) << '\n';
  } else {
    std::cout << study.question << '\n';
    for (const nlohmann::json& depth : summary.at("depths")) print_depth(depth, std::cout);
    std::cout << "\nDifference: worst-k loss, arm less baseline, nats a token, with its 95 % interval over seeds; "
              << "competitive: its upper 95 % bound lies under " << significant(study.margin, 3)
              << ".\nAll figures: " << (runs.out() / "study.json").string() << '\n';
  }
  return ExitCode::kDone;
}

}  // namespace

ExitCode study_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "study";
  command.purpose =
      "repeats a training comparison over seeds; `budget`: does an activation budget save, and at what cost";
  command.example = "mmoe study budget --study profiles/presets/studies/budget.json --data run/data/tokens --out study";
  command.options.add_options()("what", po::value<std::string>()->required(), "budget")(
      "study", po::value<std::string>()->required()->value_name("FILE"),
      "study file: job, arms, depths, seeds, margin")(
      "data", po::value<std::string>()->required()->value_name("PREFIX"), "token files of mmoe data build")(
      "out", po::value<std::string>()->required()->value_name("DIR"),
      "folder of the runs; runs done before are skipped")("seeds", po::value<std::string>()->value_name("1,2"),
                                                          "train these seeds alone, without a summary")(
      "threads", po::value<int64_t>()->value_name("N"), "threads of each run");
  command.positional = {"what"};
  add_calibration(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  if (flags.get("what") != "budget") {
    throw ConfigError("mmoe study " + flags.get("what") + ": there is no such study; use `mmoe study budget`");
  }
  try {
    return study_budget(flags);
  } catch (const Stopped& stopped) {
    std::cerr << "study: stopped; the same command goes on\n";
    return static_cast<ExitCode>(stopped.code);
  }
}

}  // namespace mmoe
