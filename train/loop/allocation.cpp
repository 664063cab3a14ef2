#include "train/loop/allocation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "sim/units/errors.h"
#include "train/loop/allocation_search.h"
#include "train/loop/evaluate.h"

namespace mmoe {
namespace {

std::string text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4g", value);
  return buffer;
}

// The least fraction of uniform k_max's cost that any allocation has, rounded up to what the user can type.
std::string least_fraction(const AllocationCost& costs) {
  return text(std::ceil(1e4 * costs.least() / costs.uniform(costs.k_max())) / 1e4);
}

double budget_of(const AllocationTarget& target, const AllocationCost& costs) {
  const std::string range = std::to_string(costs.k_min) + " to " + std::to_string(costs.k_max());
  if (target.kind == AllocationTarget::Kind::kMeanK) {
    if (!(target.value >= costs.k_min && target.value <= costs.k_max())) {
      throw ConfigError("--mean-k " + text(target.value) + " cannot be met: k is " + range +
                        " in every layer, so the least possible mean is " + std::to_string(costs.k_min) +
                        "; give a mean in that range, or change --k-min and --k-max");
    }
    const int sum = static_cast<int>(std::floor(target.value * costs.num_layers() + 1e-9));
    return costs.total(uniform_mix(costs.num_layers(), sum));
  }
  const double most = costs.uniform(costs.k_max()), budget = target.value * most;
  if (!(target.value <= 1) || costs.least() > budget * (1 + 1e-9)) {
    throw ConfigError("--cost-fraction " + text(target.value) + " cannot be met: with k " + range +
                      " the least possible is " + least_fraction(costs) +
                      " of the cost at uniform k = " + std::to_string(costs.k_max()) +
                      " and the largest is 1; give a fraction in between, or change --k-min and --k-max");
  }
  return budget;
}

class Run {
 public:
  Run(Transformer& transformer, const EvaluationWindows& search, const EvaluationWindows& test,
      const AllocationCost& costs, const AllocationOptions& options)
      : transformer_(transformer),
        search_(search),
        test_(test),
        costs_(costs),
        options_(options),
        losses_([this](const std::vector<int>& k) { return evaluate_on(search_, k).loss; }) {
    const auto used = [&](int64_t count) {
      return options.max_windows > 0 ? std::min(options.max_windows, count) : count;
    };
    block_ = block_length(used(test.count()), options.test_windows_per_document, options.where);
    result_.search_windows = used(search.count());
    result_.seq_len = search.seq_len();
  }

  Allocation operator()() {
    choose();
    verify();
    return std::move(result_);
  }

 private:
  Evaluation evaluate_on(const EvaluationWindows& windows, const std::vector<int>& k) {
    Evaluation evaluation = evaluate(transformer_, windows, k, options_.max_windows, options_.batch);
    ++done_;
    if (options_.progress) options_.progress(phase_, done_, std::max(done_, total_));
    return evaluation;
  }

  const Evaluation& on_test(const std::vector<int>& k) {
    const auto known = on_test_.find(k);
    return known != on_test_.end() ? known->second : on_test_[k] = evaluate_on(test_, k);
  }

  void choose() {
    const bool by_loss = options_.target.kind == AllocationTarget::Kind::kMaxLossIncrease;
    const int layers = costs_.num_layers(), choices = costs_.k_max() - costs_.k_min + 1;
    const int rounds = kRefinementRounds * kRefinementWidth, verification = 3;
    total_ = 1 + layers * (choices - 1) + (by_loss ? choices - 1 + 4 : 2) + rounds + verification;
    phase_ = "sensitivities";
    double limit = 0;
    int base_k = 0;
    if (by_loss) {
      const auto uniform_loss = [&](int k) { return losses_.at(std::vector<int>(layers, k)); };
      limit = uniform_loss(costs_.k_max()) + options_.target.value;
      for (int k = costs_.k_max(); k >= costs_.k_min; --k) {
        if (uniform_loss(k) <= limit) base_k = k;
      }
    } else {
      result_.budget = budget_of(options_.target, costs_);
      base_k = static_cast<int>(std::lround(mean_k(largest_uniform_mix(costs_, result_.budget))));
    }
    result_.sensitivities = measure_sensitivities(losses_, layers, base_k, costs_.k_min, costs_.k_max());
    phase_ = "search";
    AllocationSearch found;
    if (by_loss) {
      found = search_within_loss(result_.sensitivities, costs_, limit, losses_);
      result_.loss_limit = limit;
      result_.budget = costs_.total(found.k_per_layer);
    } else {
      const auto within = search_within_budget(result_.sensitivities, costs_, result_.budget, losses_);
      MMOE_CHECK(within.has_value()) << "the budget was checked";
      found = *within;
    }
    result_.k_per_layer = found.k_per_layer;
    result_.search_loss = found.loss;
    result_.uniform_k_per_layer = uniform_mix_of_cost(costs_, costs_.total(found.k_per_layer));
    result_.predicted_loss = result_.sensitivities.predicted_loss(result_.k_per_layer);
    result_.uniform_predicted_loss = result_.sensitivities.predicted_loss(result_.uniform_k_per_layer);
    result_.search_evaluations = losses_.count();
    if (options_.front) {
      result_.front = knapsack_front(knapsack_problem(result_.sensitivities, costs_), /*num_budgets=*/64,
                                     /*max_states=*/4096);
    }
  }

  void verify() {
    phase_ = "verification";
    const std::vector<int> native_k(costs_.num_layers(), options_.native_k);
    const bool is_uniform = result_.k_per_layer == result_.uniform_k_per_layer;
    if (is_uniform) result_.runner_up_k_per_layer = runner_up();
    total_ = done_ + 3;
    result_.verified = on_test(result_.k_per_layer);
    result_.uniform = on_test(result_.uniform_k_per_layer);
    result_.native = on_test(native_k);
    result_.difference = paired_difference(result_.verified, result_.uniform, block_);
    result_.difference_to_native = paired_difference(result_.verified, result_.native, block_);
    result_.verdict = verdict_of(result_.difference);
    if (!is_uniform) {
      result_.smallest_resolvable = result_.difference.smallest_resolvable;
    } else if (!result_.runner_up_k_per_layer.empty()) {
      result_.smallest_resolvable =
          paired_difference(on_test(result_.runner_up_k_per_layer), result_.uniform, block_).smallest_resolvable;
    }
  }

  // Of what the search measured: the best other allocation of at most this cost, else the best other one.
  std::vector<int> runner_up() const {
    const double cost = costs_.total(result_.k_per_layer) * (1 + 1e-9);
    std::vector<int> best;
    std::pair<bool, double> best_rank;
    for (const auto& [k, loss] : losses_.all()) {
      const std::pair<bool, double> rank(costs_.total(k) > cost, loss);
      if (k == result_.k_per_layer || (!best.empty() && best_rank <= rank)) continue;
      best = k;
      best_rank = rank;
    }
    return best;
  }

  Transformer& transformer_;
  const EvaluationWindows &search_, &test_;
  const AllocationCost& costs_;
  const AllocationOptions& options_;
  MeasuredLosses losses_;
  std::map<std::vector<int>, Evaluation> on_test_;
  Allocation result_;
  int64_t block_ = 1;
  std::string phase_;
  int done_ = 0, total_ = 0;
};

}  // namespace

AllocationVerdict verdict_of(const PairedDifference& difference) {
  if (difference.high < 0) return AllocationVerdict::kBetter;
  return difference.low > 0 ? AllocationVerdict::kWorse : AllocationVerdict::kAsGood;
}

Allocation allocate(Transformer& transformer, const EvaluationWindows& search, const EvaluationWindows& test,
                    const AllocationCost& costs, const AllocationOptions& options) {
  return Run(transformer, search, test, costs, options)();
}

}  // namespace mmoe
