#include "sim/study/budget_study.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "sim/config/json_reader.h"
#include "sim/config/json_text.h"
#include "sim/elastic/budget_cut.h"
#include "sim/elastic/elastic_law.h"
#include "sim/plan/simulate.h"

namespace mmoe {
namespace {

constexpr int64_t kMost = 1'000'000;

std::string text(double value) { return nlohmann::json(value).dump(); }

StudyArm read_arm(const nlohmann::json& json, const BudgetStudy& study) {
  const std::string path = "arms[" + std::to_string(study.arms.size()) + "]";
  JsonReader reader(json, study.where, path, nullptr);
  StudyArm arm;
  reader.require("name", "give the arm a name");
  reader.read("name", arm.name);
  const bool plain = !arm.name.empty() &&
                     arm.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
                         std::string::npos;
  if (!plain || arm.name[0] == '.') {
    reader.fail("name", "becomes a folder's name; use letters, digits, '_', '-' and '.'");
  }
  const auto known = [&](const std::string& name) {
    return std::any_of(study.arms.begin(), study.arms.end(), [&](const StudyArm& other) { return other.name == name; });
  };
  if (known(arm.name)) reader.fail("name", "is the name of an earlier arm; give each its own");
  reader.require("role", "say what the arm is for, e.g. \"budget\" or \"control\"");
  reader.read("role", arm.role);
  if (const nlohmann::json* set = reader.find("set")) {
    if (!set->is_object()) reader.fail("set", "must be an object of job keys, {\"training.recompute\": \"full\"}");
    for (const auto& [key, value] : set->items()) arm.set.emplace_back(key, value);
  }
  if (reader.find("budget") != nullptr) {
    JsonReader budget = reader.child("budget");
    BudgetKind kind = BudgetKind::kAtMost;
    budget.read_enum("kind", kind);
    if (kind == BudgetKind::kWindow) budget.fail("kind", "is not among those of a study; use at_most or exact");
    arm.budget = kind;
    const bool by_mean = budget.find("mean_k") != nullptr, by_kl = budget.find("kl_per_layer") != nullptr;
    if (by_mean == by_kl) {
      throw ConfigError(study.where + ": " + path + ".budget needs mean_k or kl_per_layer, and only one of them");
    }
    double wanted = 0;
    budget.read(by_mean ? "mean_k" : "kl_per_layer", wanted, 0, 1e6);
    (by_mean ? arm.budget_mean_k : arm.budget_kl_per_layer) = wanted;
    budget.finish();
  }
  for (const auto& [key, value] : {std::pair{"tilted_to", &arm.tilted_to}, std::pair{"k_max_to", &arm.k_max_to},
                                   std::pair{"fixed_to", &arm.fixed_to}, std::pair{"peak_of", &arm.peak_of}}) {
    reader.read(key, *value);
    if (!value->empty() && !known(*value)) reader.fail(key, "names no earlier arm; list that arm before this one");
  }
  const int laws = static_cast<int>(arm.budget.has_value()) + static_cast<int>(!arm.tilted_to.empty()) +
                   static_cast<int>(!arm.k_max_to.empty()) + static_cast<int>(!arm.fixed_to.empty());
  if (laws > 1) throw ConfigError(study.where + ": " + path + " changes the law of k twice; keep one change");
  reader.finish();
  return arm;
}

// The job with changed keys; `about` names the arm in messages.
Job job_with(const BudgetStudy& study, const std::string& about, Overrides overrides) {
  return parse_job(study.job, study.where + ": " + about, study.folder, std::move(overrides));
}

std::string budget_text(BudgetKind kind, int64_t sum_k) {
  return nlohmann::json{{"kind", name_of(kind)}, {"sum_k", sum_k}}.dump();
}

struct MeanAndKl {
  double mean_k = 0, kl_per_layer = 0;
};

// Of the arm's draws from the baseline's, both with independent layers but for the arm's budget.
MeanAndKl mean_and_kl(const ElasticConfig& elastic, int layers, const DiscreteLaw& baseline) {
  if (elastic.budget && cuts_draws(elastic.budget->method)) {
    const CutLaw law = cut_law(elastic, layers);
    double mean = 0;
    for (const DiscreteLaw& marginal : law.marginals) mean += marginal.mean() / layers;
    return {mean, std::numeric_limits<double>::quiet_NaN()};  // of the joint law: not computed
  }
  const ElasticLaw law(elastic, layers);
  return {law.sum().mean() / layers, law.kl_divergence() / layers + law.free_draw().divergence(baseline)};
}

// The bound whose conditioned law comes closest to the wanted mean or divergence, the lower of two equally close ones.
int64_t closest_bound(const StudyArm& arm, ElasticConfig elastic, int layers) {
  const int64_t least = int64_t{layers} * elastic.k_min, most = int64_t{layers} * elastic.k_max;
  int64_t best = least;
  double best_distance = std::numeric_limits<double>::infinity();
  for (int64_t sum_k = least; sum_k <= most; ++sum_k) {
    elastic.budget = Budget{*arm.budget, {layers}, {sum_k}, {}};
    const ElasticLaw law(elastic, layers);
    const double distance = arm.budget_mean_k ? std::abs(law.sum().mean() / layers - *arm.budget_mean_k)
                                              : std::abs(law.kl_divergence() / layers - *arm.budget_kl_per_layer);
    if (distance < best_distance - 1e-12) best = sum_k, best_distance = distance;
  }
  return best;
}

// Whether nothing predicts the peak: of draws that are cut the joint law is not known.
bool cuts_draws(const Job& job) { return job.elastic.budget && cuts_draws(job.elastic.budget->method); }

std::optional<Summary> predicted_peak(const Job& job, const Calibration& calibration) {
  if (cuts_draws(job)) return std::nullopt;
  return simulate(job, calibration).peak_allocated;
}

// The largest part of the global batch that is whole and keeps the peak; 0: none.
int64_t micro_batch_within(const BudgetStudy& study, const std::string& about, Overrides overrides, const Job& job,
                           double p99_bytes, const Calibration& calibration) {
  for (int64_t size = job.training.global_batch_size; size >= 1; --size) {
    if (job.training.global_batch_size % size != 0) continue;
    Overrides smaller = overrides;
    smaller.emplace_back("training.micro_batch_size", std::to_string(size));
    if (predicted_peak(job_with(study, about, std::move(smaller)), calibration)->p99 <= p99_bytes) return size;
  }
  return 0;
}

}  // namespace

BudgetStudy load_study(const std::string& path) {
  BudgetStudy study;
  study.where = path;
  study.folder = std::filesystem::absolute(path).parent_path();
  const nlohmann::json json = read_json_file(path);
  JsonReader reader(json, path, "", nullptr);
  reader.require("question", "say what the study is to find out");
  reader.read("question", study.question);
  study.job = reader.require("job", "give the job that all arms change");
  reader.require("depths", "list the numbers of layers, e.g. [4, 8]");
  reader.read("depths", study.depths);
  reader.require("seeds", "list the seeds, e.g. [1, 2, 3]");
  reader.read("seeds", study.seeds);
  reader.read("evaluations", study.evaluations, 1, 1000);
  reader.read("eval_sequences", study.eval_sequences, 0, kMost);
  reader.require("margin", "give the worst-k loss that \"competitive\" may cost, nats a token, e.g. 0.02");
  reader.read("margin", study.margin, 0, 1e6);
  if (reader.find("timing") != nullptr) {
    JsonReader timing = reader.child("timing");
    timing.read("rounds", study.timing_rounds, 0, kMost);
    timing.read("steps", study.timing_steps, 1, kMost);
    timing.read("warmup_steps", study.timing_warmup_steps, 0, kMost);
    timing.finish();
    if (study.timing_rounds > 0 && study.timing_steps == 0) study.timing_steps = 20;
  }
  const auto check_list = [&](const char* key, const std::vector<int64_t>& list, int64_t least) {
    const bool right = !list.empty() && std::all_of(list.begin(), list.end(), [&](int64_t x) { return x >= least; });
    std::vector<int64_t> sorted = list;
    std::sort(sorted.begin(), sorted.end());
    const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
    if (!right || !distinct)
      reader.fail(key, "must be a list of different whole numbers from " + std::to_string(least));
  };
  check_list("depths", study.depths, 1);
  check_list("seeds", study.seeds, 0);
  const nlohmann::json& arms = reader.require("arms", "list the arms; the first is the baseline");
  if (!arms.is_array() || arms.empty()) reader.fail("arms", "must be a list; the first is the baseline");
  for (const nlohmann::json& arm : arms) study.arms.push_back(read_arm(arm, study));
  const StudyArm& first = study.arms.front();
  if (first.budget) throw ConfigError(path + ": arms[0] is the baseline and has a budget; list it later");
  reader.finish();
  return study;
}

std::vector<ResolvedArm> resolve_arms(const BudgetStudy& study, int64_t depth, const Calibration& calibration) {
  std::vector<ResolvedArm> resolved;
  std::optional<DiscreteLaw> baseline;
  for (const StudyArm& arm : study.arms) {
    const std::string about = "arm " + arm.name + " at " + std::to_string(depth) + " layers";
    const auto taken_from = [&](const std::string& name) -> const ResolvedArm& {
      return *std::find_if(resolved.begin(), resolved.end(), [&](const auto& other) { return other.name == name; });
    };
    Overrides overrides = {{"model.num_layers", std::to_string(depth)}};
    for (const auto& [key, value] : arm.set) {
      overrides.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
    }
    Job job = job_with(study, about, overrides);
    const int layers = static_cast<int>(job.model.num_moe_layers());
    if (layers == 0 || job.elastic.sampling == Sampling::kTopP || job.hardware.num_devices > 1) {
      throw ConfigError(job.where + ": a study needs MoE layers, draws of k and one device");
    }
    if (resolved.empty() && cuts_draws(job)) {
      throw ConfigError(job.where + ": elastic.budget.method = " + name_of(job.elastic.budget->method) +
                        " leaves the baseline without a predicted peak, which savings need; use condition");
    }
    if (!baseline) baseline = ElasticLaw(job.elastic, layers).free_draw();
    // Of the baseline: the same gates in every arm.
    overrides.emplace_back(
        "elastic.k_reference",
        std::to_string(resolved.empty() ? job.elastic.k_reference : resolved[0].job.elastic.k_reference));
    if (arm.budget) {
      overrides.emplace_back("elastic.budget", budget_text(*arm.budget, closest_bound(arm, job.elastic, layers)));
    } else if (!arm.tilted_to.empty()) {
      overrides.emplace_back("elastic.sampling", "tilted");
      overrides.emplace_back("elastic.mean_k", text(taken_from(arm.tilted_to).mean_k));
    } else if (!arm.k_max_to.empty()) {
      const double mean = taken_from(arm.k_max_to).mean_k;
      overrides.emplace_back("elastic.k_max", std::to_string(std::lround(2 * mean - job.elastic.k_min)));
    } else if (!arm.fixed_to.empty()) {
      const std::string k = std::to_string(std::lround(taken_from(arm.fixed_to).mean_k));
      overrides.emplace_back("elastic.sampling", "fixed");
      overrides.emplace_back("elastic.k_min", k);
      overrides.emplace_back("elastic.k_max", k);
    }
    if (!arm.peak_of.empty()) {
      const ResolvedArm& other = taken_from(arm.peak_of);
      const Job before = job_with(study, about, overrides);
      for (const Job* compared : {&other.job, &before}) {
        if (!cuts_draws(*compared)) continue;
        throw ConfigError(before.where + ": peak_of = " + other.name + " compares predicted peaks, but that of arm " +
                          (compared == &before ? arm.name : other.name) +
                          " is not known: its elastic.budget.method is " + name_of(compared->elastic.budget->method) +
                          "; use condition, or leave peak_of out");
      }
      const int64_t size = micro_batch_within(study, about, overrides, before, other.predicted_peak->p99, calibration);
      if (size == 0) {
        throw ConfigError(before.where + ": no micro-batch keeps the peak of arm " + other.name +
                          "; leave peak_of out, or the arm");
      }
      overrides.emplace_back("training.micro_batch_size", std::to_string(size));
    }
    job = job_with(study, about, overrides);
    const int64_t steps = job.training.num_steps();
    if (steps < study.evaluations) {
      throw ConfigError(job.where + ": training.tokens gives " + std::to_string(steps) + " steps, fewer than the " +
                        std::to_string(study.evaluations) + " evaluations; raise it");
    }
    job.training.checkpoint_interval = steps / study.evaluations;
    const MeanAndKl law = mean_and_kl(job.elastic, layers, *baseline);
    resolved.push_back(
        {arm.name, arm.role, depth, job, steps, law.mean_k, law.kl_per_layer, predicted_peak(job, calibration)});
  }
  return resolved;
}

nlohmann::json cut_marginals(const std::vector<ResolvedArm>& arms) {
  nlohmann::json list = nlohmann::json::array();
  for (const ResolvedArm& arm : arms) {
    const ElasticConfig& elastic = arm.job.elastic;
    if (!elastic.budget || elastic.budget->kind != BudgetKind::kAtMost) continue;
    const auto layers = static_cast<int>(arm.job.model.num_moe_layers());
    const DiscreteLaw free = ElasticLaw(arms.front().job.elastic, layers).free_draw();
    for (const BudgetMethod method : {BudgetMethod::kCondition, BudgetMethod::kClip, BudgetMethod::kRescale}) {
      ElasticConfig changed = elastic;
      changed.budget->method = method;
      const std::vector<DiscreteLaw> marginals =
          cuts_draws(method) ? cut_law(changed, layers).marginals : ElasticLaw(changed, layers).marginals();
      nlohmann::json entry = {{"arm", arm.name}, {"method", name_of(method)}};
      double mean = 0;
      for (const DiscreteLaw& marginal : marginals) {
        nlohmann::json by_k;
        for (int k = elastic.k_min; k <= elastic.k_max; ++k) by_k[std::to_string(k)] = marginal.probability(k);
        entry["marginals"].push_back(std::move(by_k));
        entry["kl_by_layer"].push_back(marginal.divergence(free));
        mean += marginal.mean() / layers;
      }
      entry["mean_k"] = mean;
      list.push_back(std::move(entry));
    }
  }
  return list;
}

}  // namespace mmoe
