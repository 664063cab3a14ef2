#include "sim/config/elastic_config.h"

#include <algorithm>
#include <numeric>

#include "sim/config/pipeline_layout.h"
#include "sim/config/sections.h"

namespace mmoe {
namespace {

std::string text(int64_t value) { return std::to_string(value); }

// "elastic.budget.sum_k[1]", or without the index when there is one group.
std::string bound_key(const Budget& budget, std::size_t group) {
  return budget.sum_k.size() == 1 ? "elastic.budget.sum_k" : "elastic.budget.sum_k[" + std::to_string(group) + "]";
}

void check_groups(const Budget& budget, const ModelConfig& model, const std::string& where) {
  const int64_t total = std::accumulate(budget.groups.begin(), budget.groups.end(), int64_t{0});
  const bool positive = std::all_of(budget.groups.begin(), budget.groups.end(), [](int64_t n) { return n > 0; });
  if (!positive || total != model.num_moe_layers()) {
    throw ConfigError(about(where, "elastic.budget.groups", budget.groups) +
                      (positive ? "sums to " + text(total) : "holds a group without layers") +
                      "; the groups must cover the model's " + text(model.num_moe_layers()) + " MoE layers");
  }
  if (budget.sum_k.size() != budget.groups.size()) {
    throw ConfigError(about(where, "elastic.budget.sum_k", budget.sum_k) + "lists " +
                      std::to_string(budget.sum_k.size()) + " bounds for " + std::to_string(budget.groups.size()) +
                      " groups of MoE layers; give one bound a group, or one number for all");
  }
}

void check_bounds(const ElasticConfig& elastic, const std::string& where) {
  const Budget& budget = *elastic.budget;
  for (std::size_t g = 0; g < budget.groups.size(); ++g) {
    const int64_t n = budget.groups[g], bound = budget.sum_k[g];
    const int64_t least = n * elastic.k_min, most = n * elastic.k_max;
    const std::string group = text(n) + " MoE layers with k in " + text(elastic.k_min) + ".." + text(elastic.k_max);
    if (bound < least) {
      throw ConfigError(about(where, bound_key(budget, g), bound) + "is below the least possible sum: " + group +
                        " need at least " + text(least) + "; raise it or lower elastic.k_min");
    }
    if (bound > most && budget.kind != BudgetKind::kWindow) {
      throw ConfigError(about(where, bound_key(budget, g), bound) + "is above the largest possible sum: " + group +
                        " reach at most " + text(most) + "; lower it or leave the budget out");
    }
  }
}

void check_method(const ElasticConfig& elastic, const std::string& where) {
  const Budget& budget = *elastic.budget;
  if (budget.method == BudgetMethod::kCondition) return;
  const std::string method = where + ": elastic.budget.method = " + name_of(budget.method) + " ";
  if (elastic.granularity != Granularity::kLayer) {
    throw ConfigError(method + "needs elastic.granularity = layer; leave elastic.budget.method out");
  }
  const bool exact_too = budget.method == BudgetMethod::kReject && budget.kind == BudgetKind::kExact;
  if (budget.kind != BudgetKind::kAtMost && !exact_too) {
    throw ConfigError(method + "does not go with elastic.budget.kind = " + name_of(budget.kind) + "; use at_most");
  }
}

// With one k for all layers the sum over n layers is n k, so an exact bound must be n times one and the same k.
void check_exact_with_one_k(const ElasticConfig& elastic, const std::string& where) {
  const Budget& budget = *elastic.budget;
  for (std::size_t g = 0; g < budget.groups.size(); ++g) {
    const int64_t n = budget.groups[g], bound = budget.sum_k[g];
    const std::string granularity = "elastic.granularity = " + name_of(elastic.granularity) + " gives all layers one k";
    if (bound % n != 0) {
      throw ConfigError(about(where, bound_key(budget, g), bound) + "is no multiple of the group's " + text(n) +
                        " MoE layers, and " + granularity + "; use " + text(bound / n * n) + " or " +
                        text((bound / n + 1) * n) + ", or at_most");
    }
    if (bound / n != budget.sum_k[0] / budget.groups[0]) {
      throw ConfigError(about(where, bound_key(budget, g), bound) + "asks for k = " + text(bound / n) +
                        ", the first group for k = " + text(budget.sum_k[0] / budget.groups[0]) + ", and " +
                        granularity);
    }
  }
}

// Groups of one a pipeline rank, ranks without MoE layers left out.
void default_groups(Budget& budget, const ModelConfig& model, const ParallelismConfig& parallelism) {
  for (auto& layers : moe_layers_by_pipeline_rank(model, parallelism)) {
    if (layers.empty()) continue;
    budget.groups.push_back(static_cast<int64_t>(layers.size()));
    if (parallelism.virtual_pipeline > 1) budget.layers.push_back(std::move(layers));
  }
}

Budget read_budget(JsonReader& elastic, const ModelConfig& model, const ParallelismConfig& parallelism) {
  JsonReader section = elastic.child("budget");
  Budget budget;
  section.read_enum("kind", budget.kind);
  const nlohmann::json& bound = section.require(
      "sum_k", "give the bound on the sum of k over the MoE layers of a group, or \"budget\": \"auto\"");
  section.read_enum("method", budget.method);
  section.read("groups", budget.groups);
  if (budget.groups.empty()) default_groups(budget, model, parallelism);
  if (bound.is_array()) {
    section.read("sum_k", budget.sum_k);
  } else {
    int64_t number = 0;
    section.read("sum_k", number, 1, INT32_MAX);
    budget.sum_k.assign(budget.groups.size(), number);
  }
  section.finish();
  return budget;
}

}  // namespace

std::vector<std::vector<int64_t>> Budget::group_layers() const {
  if (!layers.empty()) return layers;
  std::vector<std::vector<int64_t>> consecutive;
  int64_t next = 0;
  for (const int64_t size : groups) {
    auto& group = consecutive.emplace_back(static_cast<std::size_t>(size));
    std::iota(group.begin(), group.end(), next);
    next += size;
  }
  return consecutive;
}

ElasticConfig read_elastic(JsonReader& root, const ModelConfig& model, const ParallelismConfig& parallelism) {
  ElasticConfig elastic;
  const int top_k = static_cast<int>(model.top_k);
  if (root.find("elastic") == nullptr) {
    if (model.num_experts > 0 && top_k == 0) {
      throw ConfigError(root.where() + ": model.top_k is missing; give it, or an elastic section with k_min and k_max");
    }
    elastic.sampling = Sampling::kFixed;
    elastic.k_min = elastic.k_max = elastic.k_reference = top_k;
    return elastic;
  }
  JsonReader section = root.child("elastic");
  if (model.num_experts == 0) {
    throw ConfigError(root.where() + ": elastic needs an MoE model, and model.num_experts is 0; leave the section out");
  }
  const auto read_k = [&](const char* key, int& value) {
    int64_t number = value;
    section.read(key, number, 1, INT16_MAX);
    value = static_cast<int>(number);
  };
  section.read_enum("sampling", elastic.sampling);
  if (top_k == 0) section.require("k_max", "give the largest number of active experts, e.g. 6");
  elastic.k_max = top_k;
  read_k("k_max", elastic.k_max);
  if (elastic.sampling == Sampling::kFixed) elastic.k_min = elastic.k_max;
  read_k("k_min", elastic.k_min);
  section.read_enum("granularity", elastic.granularity);
  section.read("tau", elastic.tau, 0, 1e6);
  if (elastic.sampling == Sampling::kTilted) {
    section.require("mean_k", "give the wanted mean of k, between k_min and k_max");
  }
  section.read("mean_k", elastic.mean_k, 0, INT16_MAX);
  section.read("top_p", elastic.top_p, 0, 1);
  elastic.k_reference = elastic.k_max;
  read_k("k_reference", elastic.k_reference);
  section.read_enum("share", elastic.share);
  if (const nlohmann::json* budget = section.find("budget"); budget != nullptr && *budget != "none") {
    if (*budget == "auto") {
      elastic.budget_is_auto = true;
    } else {
      elastic.budget = read_budget(section, model, parallelism);
    }
  }
  section.finish();
  return elastic;
}

void ElasticConfig::validate(const ModelConfig& model, const std::string& where) const {
  if (model.num_experts == 0) return;
  const auto rule = [&](bool holds, const char* key, const auto& value, const std::string& what) {
    if (!holds) throw ConfigError(about(where, std::string("elastic.") + key, value) + what);
  };
  rule(k_max <= model.num_experts, "k_max", k_max,
       "is above model.num_experts = " + text(model.num_experts) + "; a token cannot use more experts than there are");
  rule(k_max <= model.num_experts / model.n_group * model.topk_group, "k_max", k_max,
       "is more than the experts of model.topk_group = " + text(model.topk_group) +
           " of model.n_group = " + text(model.n_group) + " groups; allow more groups");
  rule(k_min >= 1, "k_min", k_min, "is too small; it must be at least 1");
  rule(k_min <= k_max, "k_min", k_min, "is above elastic.k_max = " + text(k_max) + "; swap them");
  rule(sampling != Sampling::kFixed || k_min == k_max, "k_min", k_min,
       "must equal elastic.k_max = " + text(k_max) + " with elastic.sampling = fixed");
  rule(tau > 0, "tau", tau, "must be above 0; 2 is usual");
  rule(sampling != Sampling::kTilted || (mean_k > k_min && mean_k < k_max), "mean_k", mean_k,
       "must lie strictly between elastic.k_min = " + text(k_min) + " and elastic.k_max = " + text(k_max));
  rule(top_p > 0 && top_p <= 1, "top_p", top_p, "must be above 0 and at most 1");
  rule(k_reference >= 1 && k_reference <= model.num_experts, "k_reference", k_reference,
       "is above model.num_experts = " + text(model.num_experts));
  if (!budget && !budget_is_auto) return;
  if (sampling == Sampling::kTopP) {
    throw ConfigError(where +
                      ": elastic.budget does not go with elastic.sampling = top_p (there k follows from each "
                      "token, not from a draw); use another sampling, or leave the budget out");
  }
  if (!budget) return;
  check_groups(*budget, model, where);
  check_bounds(*this, where);
  check_method(*this, where);
  if (budget->kind == BudgetKind::kExact && granularity != Granularity::kLayer) check_exact_with_one_k(*this, where);
}

void check_window(const Budget& budget, const Job& job) {
  const ParallelismConfig& parallel = job.parallelism;
  if (budget.kind != BudgetKind::kWindow) return;
  const int64_t micro_batches = job.num_micro_batches();
  const bool one_group_a_rank = static_cast<int64_t>(budget.groups.size()) == parallel.pipeline;
  for (std::size_t g = 0; g < budget.groups.size(); ++g) {
    // Warm-up depth of 1F1B (Narayanan et al. 2021, arXiv:2104.04473, section 2.2), in chunks.
    const int64_t rank = one_group_a_rank ? static_cast<int64_t>(g) : 0;
    const int64_t ranks_behind = parallel.pipeline - rank - 1;
    const int64_t chunks = parallel.virtual_pipeline == 1
                               ? ranks_behind + 1
                               : 2 * ranks_behind + (parallel.virtual_pipeline - 1) * parallel.pipeline + 1;
    const int64_t in_flight =
        std::min((chunks + parallel.virtual_pipeline - 1) / parallel.virtual_pipeline, micro_batches);
    const int64_t whole = parallel.virtual_pipeline == 1 && one_group_a_rank ? in_flight : 1;
    const int64_t least = budget.groups[g] * job.elastic.k_min * whole;
    const int64_t most = budget.groups[g] * job.elastic.k_max * in_flight;
    const std::string held = text(budget.groups[g]) + " MoE layers, " + text(in_flight) + " micro-batches in flight";
    if (budget.sum_k[g] < least) {
      throw ConfigError(about(job.where, bound_key(budget, g), budget.sum_k[g]) +
                        "is below the least possible sum of a window (" + held + "), " + text(least) + "; raise it");
    }
    if (budget.sum_k[g] > most) {
      throw ConfigError(about(job.where, bound_key(budget, g), budget.sum_k[g]) +
                        "is above the largest possible sum of a window (" + held + "), " + text(most) +
                        "; lower it or leave the budget out");
    }
  }
}

nlohmann::json to_json(const ElasticConfig& elastic) {
  nlohmann::json json{{"k_min", elastic.k_min},
                      {"k_max", elastic.k_max},
                      {"granularity", name_of(elastic.granularity)},
                      {"sampling", name_of(elastic.sampling)},
                      {"tau", elastic.tau},
                      {"top_p", elastic.top_p},
                      {"k_reference", elastic.k_reference},
                      {"share", name_of(elastic.share)}};
  if (elastic.sampling == Sampling::kTilted) json["mean_k"] = elastic.mean_k;
  if (elastic.budget_is_auto && !elastic.budget) json["budget"] = "auto";
  if (elastic.budget) {
    json["budget"] = {{"kind", name_of(elastic.budget->kind)}, {"sum_k", elastic.budget->sum_k}};
    if (elastic.budget->method != BudgetMethod::kCondition) json["budget"]["method"] = name_of(elastic.budget->method);
    if (elastic.budget->layers.empty()) json["budget"]["groups"] = elastic.budget->groups;
  }
  return json;
}

}  // namespace mmoe
