#include "sim/cli/loop_stages.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <vector>

#include "profiles/store/atomic_file.h"
#include "sim/cli/child_process.h"
#include "sim/cli/loop_state.h"
#include "sim/cli/loop_summary.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// One stage: a command of ours, or (no words) something done here.
struct Stage {
  std::string name;
  std::string purpose;
  std::string output;              // file that it leaves in the run folder
  std::function<Words()> words{};  // after "mmoe"; asked when the stage begins
  bool captured = false;           // the command's standard output becomes `output`
  // Whether exit code 3 with this output lets the loop go on; nothing: it does not.
  std::function<bool(const std::string& output)> goes_on_after_no{};
  std::function<std::string()> afterward{};  // does the rest; says why the stage is not complete, or nothing
};

template <class T, class ToText>
std::string joined(const std::vector<T>& items, ToText&& to_text) {
  std::string text;
  for (const T& item : items) {
    if (!text.empty()) text += ',';
    text += to_text(item);
  }
  return text;
}

// The shortest text that reads back as the same number.
std::string number(double value) { return nlohmann::json(value).dump(); }

// The newest RUN/checkpoints/step_N; empty when there is none.
std::string last_checkpoint(const std::string& run) {
  int64_t last_step = -1;
  std::string last;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(run + "/checkpoints", error)) {
    const std::string name = entry.path().filename();
    if (name.rfind("step_", 0) != 0 || name.find_first_not_of("0123456789", 5) != name.npos || name.size() > 20)
      continue;
    const int64_t step = std::atoll(name.c_str() + 5);
    if (step > last_step) last_step = step, last = entry.path();
  }
  return last;
}

// A plan of `mmoe simulate` that may fit: worth trying.
bool is_at_risk_only(const std::string& plan) {
  const nlohmann::json json = nlohmann::json::parse(plan, nullptr, false);
  return json.is_object() && json.value("/fit/verdict"_json_pointer, "") == "at_risk";
}

class Loop {
 public:
  explicit Loop(const LoopSettings& settings)
      : settings_(settings),
        run_(settings.run),
        data_(settings.data.empty() ? settings.run + "/data/tokens" : settings.data) {}

  std::vector<Stage> stages() const;

 private:
  std::string file(const std::string& name) const { return run_ + "/" + name; }
  Words build_data() const;
  Words train() const;
  std::string why_not_trained() const;
  Words evaluate() const;
  Words allocate() const;
  std::string checkpoint() const;

  const LoopSettings& settings_;
  const std::string run_, data_;
};

std::vector<Stage> Loop::stages() const {
  const Job& job = settings_.job;
  const std::string job_file = file("job.json"), profile = file("profile.json"), calibration = file("calibration.json");
  // Of several devices training measures the links.
  const std::string collectives = job.hardware.num_devices > 1 ? file("profile_collectives.json") : "";
  std::vector<Stage> stages;
  if (settings_.data.empty()) {
    stages.push_back({.name = "data", .purpose = "text to tokens", .output = "data/tokens.json", .words = [this] {
                        return build_data();
                      }});
  }
  stages.push_back({.name = "simulate",
                    .purpose = "memory and step time before anything has run",
                    .output = "plan.json",
                    .words =
                        [=] {
                          return Words{"simulate", "--job", job_file, "--json"};
                        },
                    .captured = true,
                    .goes_on_after_no = is_at_risk_only});
  stages.push_back({.name = "train",
                    .purpose = std::to_string(job.training.num_steps()) + " steps",
                    .output = "metrics.jsonl",
                    .words = [this] { return train(); },
                    .afterward = [this] { return why_not_trained(); }});
  stages.push_back({.name = "profile",
                    .purpose = "time and memory per layer, k and operation",
                    .output = "profile.json",
                    .words = [=] {
                      return Words{"profile", "--job", job_file, "--out", profile};
                    }});
  stages.push_back(
      {.name = "calibrate", .purpose = "fit the simulator to the profile", .output = "calibration.json", .words = [=] {
         Words words = {"calibrate", "--profile", profile, "--out", calibration};
         if (!collectives.empty()) words.insert(words.begin() + 3, collectives);
         return words;
       }});
  stages.push_back(
      {.name = "simulate_calibrated",
       .purpose = "memory and step time again",
       .output = "plan_calibrated.json",
       .words = [=] { return Words{"simulate", "--job", job_file, "--calibration", calibration, "--json"}; },
       .captured = true,
       .goes_on_after_no = [](const std::string&) { return true; }});
  stages.push_back({.name = "eval",
                    .purpose = "loss at each k on text not trained on",
                    .output = "eval.json",
                    .words = [this] { return evaluate(); },
                    .captured = true});
  stages.push_back({.name = "allocate",
                    .purpose = "k of each layer for a compute budget",
                    .output = "allocation.json",
                    .words = [this] { return allocate(); },
                    .goes_on_after_no = [](const std::string&) { return true; }});
  if (job.elastic.budget) {
    stages.push_back(
        {.name = "budget",
         .purpose = "what the activation budget saves",
         .output = "budget.json",
         .words = [=] { return Words{"budget", "--job", job_file, "--calibration", calibration, "--json"}; },
         .captured = true,
         .goes_on_after_no = [](const std::string&) { return true; }});
  }
  stages.push_back(
      {.name = "summary", .purpose = "predicted beside measured", .output = "loop.json", .afterward = [this] {
         write_file_atomically(file("loop.json"), summarize_run(settings_.job, run_, data_).dump(2) + "\n");
         return std::string();
       }});
  stages.push_back({.name = "report", .purpose = "one page with figures", .output = "report.html", .words = [this] {
                      return Words{"report", "--run", run_};
                    }});
  return stages;
}

Words Loop::build_data() const {
  const DataConfig& data = settings_.job.data;
  fs::create_directories(run_ + "/data");
  Words words = {"data", "build", "--text"};
  words.insert(words.end(), data.text.begin(), data.text.end());
  words.insert(words.end(), {"--tokenizer", data.tokenizer, "--split", joined(data.split, number), "--out", data_});
  if (data.tokenizer != "bytes") {
    const int64_t vocab_size = data.vocab_size > 0 ? data.vocab_size : settings_.job.model.vocab_size;
    words.insert(words.end(), {"--vocab-size", std::to_string(vocab_size)});
  }
  return words;
}

Words Loop::train() const {
  const Job& job = settings_.job;
  Words words = {"train",  "--job",   file("job.json"),
                 "--data", data_,     "--out",
                 run_,     "--steps", std::to_string(job.training.num_steps())};
  if (job.hardware.num_devices > 1) words.insert(words.end(), {"--nproc", std::to_string(job.hardware.num_devices)});
  if (!last_checkpoint(run_).empty()) words.push_back("--resume");
  return words;
}

// A trainer that was told to stop writes a checkpoint and ends with 0, so the metrics decide whether all steps ran.
std::string Loop::why_not_trained() const {
  std::ifstream metrics(file("metrics.jsonl"));
  std::string line, last;
  while (std::getline(metrics, line)) {
    if (!line.empty()) last = line;
  }
  const nlohmann::json record = nlohmann::json::parse(last, nullptr, false);
  const int64_t step = record.is_object() ? record.value("step", int64_t{0}) : 0;
  const int64_t steps = settings_.job.training.num_steps();
  if (step >= steps) return "";
  return "training stopped after step " + std::to_string(step) + " of " + std::to_string(steps) +
         "; run the same command again to go on";
}

std::string Loop::checkpoint() const {
  const std::string checkpoint = last_checkpoint(run_);
  if (checkpoint.empty())
    throw ConfigError(run_ + "/checkpoints: holds no checkpoint; use another --out to train again");
  return checkpoint;
}

Words Loop::evaluate() const {
  std::vector<int> ks(static_cast<std::size_t>(settings_.job.elastic.k_max));
  std::iota(ks.begin(), ks.end(), 1);
  return {"eval",
          "--checkpoint",
          checkpoint(),
          "--data",
          data_,
          "--split",
          "valid",
          "--k",
          joined(ks, [](int k) { return std::to_string(k); }),
          "--max-sequences",
          std::to_string(settings_.job.loop.eval_sequences),
          "--json"};
}

Words Loop::allocate() const {
  const ElasticConfig& elastic = settings_.job.elastic;
  const double given = settings_.job.loop.allocation_mean_k;
  const double mean_k = given > 0 ? given : (elastic.k_min + elastic.k_max) / 2.0;
  return {"allocate",
          "--checkpoint",
          checkpoint(),
          "--data",
          data_,
          "--calibration",
          file("calibration.json"),
          "--mean-k",
          number(mean_k),
          "--max-sequences",
          std::to_string(settings_.job.loop.eval_sequences),
          "--out",
          file("allocation.json")};
}

// Runs the stage's command. Returns its exit code, or 128 + the number of the signal that stopped it or us.
int run_stage(const Stage& stage, const LoopSettings& settings, const SignalForwarding& signals,
              std::ostream& messages) {
  int code = 0;
  if (stage.words) {
    Words command = {settings.program};
    for (std::string& word : stage.words()) command.push_back(std::move(word));
    const ChildResult child =
        run_child(command, stage.captured ? ChildOutput::kCapture : ChildOutput::kToStandardError);
    if (signals.received() != 0) return 128 + signals.received();
    if (child.signal != 0) {
      messages << "mmoe: error: " << stage.name << " was killed by signal " << child.signal
               << (child.signal == 9 ? " (out of memory?)" : "") << "; run the same command again to go on\n";
      return 1;
    }
    code = child.exit_code;
    if (code == 3 && stage.goes_on_after_no && stage.goes_on_after_no(child.output)) code = 0;
    if (code == 0 && stage.captured) {
      if (!nlohmann::json::accept(child.output)) throw std::runtime_error(stage.name + " printed no JSON");
      write_file_atomically(settings.run + "/" + stage.output, child.output);
    }
  }
  const std::string problem = code == 0 && stage.afterward ? stage.afterward() : "";
  if (problem.empty()) return code;
  messages << "mmoe: error: " << problem << '\n';
  return 1;
}

// The resolved job without what only this machine's memory says, which may differ a little after a restart.
nlohmann::json job_to_run(const Job& job) {
  nlohmann::json json = to_json(job);
  if (job.given.count("hardware.usable_memory_gib") == 0) json["hardware"].erase("usable_memory_gib");
  return json;
}

}  // namespace

void check_loop_job(const LoopSettings& settings) {
  const Job& job = settings.job;
  const auto fail = [&](const std::string& what) { throw ConfigError(job.where + ": " + what); };
  if (job.model.num_experts == 0)
    fail(
        "model.num_experts = 0: the loop chooses the number of active experts, which a dense model has not; give an "
        "MoE model");
  if (job.training.num_steps() < 1) {
    fail("training.tokens = " + number(job.training.tokens) + " is less than one step of " +
         std::to_string(job.training.global_batch_size * job.training.seq_len) +
         " tokens: it says how long the loop trains; give the number of tokens, for example 4e6");
  }
  if (settings.data.empty() && job.data.text.empty())
    fail("data.text is not given: it names the text to train on; give a list of files, or token files with --data");
}

ExitCode run_loop(const LoopSettings& settings, std::ostream& messages) {
  using Clock = std::chrono::steady_clock;
  check_loop_job(settings);
  LoopState state(settings.run, job_to_run(settings.job), settings.data);
  const Loop loop(settings);
  const std::vector<Stage> stages = loop.stages();
  const SignalForwarding signals;
  bool all_before_done = true;  // what stands on a stage that runs again, runs again
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    const std::string place =
        "loop " + std::to_string(i + 1) + "/" + std::to_string(stages.size()) + " " + stage.name + ": ";
    if (all_before_done && state.is_done(stage.name) && fs::exists(settings.run + "/" + stage.output)) {
      messages << place << "done before, in " << to_string(Seconds{state.seconds().at(stage.name)}) << '\n';
      continue;
    }
    all_before_done = false;
    messages << place << stage.purpose << std::endl;
    const Clock::time_point begin = Clock::now();
    const int code = run_stage(stage, settings, signals, messages);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (signals.received() != 0) {
      messages << place << "interrupted; run the same command again to go on\n";
      return static_cast<ExitCode>(128 + signals.received());
    }
    if (code != 0) {
      messages << place << "failed after " << to_string(Seconds{seconds}) << "; earlier stages are kept\n";
      return static_cast<ExitCode>(code);
    }
    state.complete(stage.name, seconds);
    messages << place << "done in " << to_string(Seconds{seconds}) << std::endl;
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
