#pragma once
// The design of a study of activation budgets: which arms are trained, fixed before anything runs.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/elastic/value_law.h"

namespace mmoe {

// One way of training, as changes of the study's job. An arm that names another takes something from it, at every
// depth: that arm stands before it in the list.
struct StudyArm {
  std::string name;
  std::string role;                                           // for reports: "baseline", "budget", "control", ...
  std::vector<std::pair<std::string, nlohmann::json>> set{};  // job keys and their values
  // A bound on the sum of k over all MoE layers: the one whose law comes closest in this respect.
  std::optional<BudgetKind> budget{};
  std::optional<double> budget_mean_k{};        // mean k of a layer
  std::optional<double> budget_kl_per_layer{};  // nats
  std::string tilted_to{};                      // independent draws, tilted to that arm's mean k
  std::string k_max_to{};                       // uniform on k_min..k', its mean closest to that arm's
  std::string fixed_to{};                       // the same k everywhere: that arm's mean, rounded
  std::string peak_of{};                        // the largest micro-batch whose p99 peak is no higher than that arm's
};

struct BudgetStudy {
  std::string where;   // the file, for messages
  std::string folder;  // against which paths of the job are resolved
  std::string question;
  nlohmann::json job;
  std::vector<int64_t> depths;  // model.num_layers
  std::vector<int64_t> seeds;
  int64_t evaluations = 1;     // along each run, evenly spaced, the last at its end
  int64_t eval_sequences = 0;  // of the valid split; 0: all
  double margin = 0;           // "competitive" allows this much more worst-k loss, nats a token
  int64_t timing_rounds = 0, timing_steps = 0, timing_warmup_steps = 0;
  std::vector<StudyArm> arms;  // the first is the baseline, without a budget
};

// Reads and checks a study file. Throws ConfigError naming file and key.
BudgetStudy load_study(const std::string& path);

// An arm at one depth.
struct ResolvedArm {
  std::string name, role;
  int64_t depth = 0;
  Job job;  // seed left to the runs; training.checkpoint_interval at the evaluations
  int64_t steps = 0;
  double mean_k = 0;        // of a layer, expected
  double kl_per_layer = 0;  // nats from the baseline's law; infinite where the arm draws what the baseline cannot
  std::optional<Summary> predicted_peak;  // bytes of a step, over the draws; none where predictions do not know the law
};

// All arms at one depth, in order. Throws ConfigError naming the arm for what cannot be met.
std::vector<ResolvedArm> resolve_arms(const BudgetStudy& study, int64_t depth, const Calibration& calibration);

// What keeping the bounds by clipping and by rescaling would do to the draws of every arm with an at_most budget:
// [{arm, method, mean_k, marginals[layer][k], kl_by_layer[]}], method "condition" among them.
nlohmann::json cut_marginals(const std::vector<ResolvedArm>& arms);

}  // namespace mmoe
