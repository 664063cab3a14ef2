#include "sim/allocation/knapsack.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

struct Choice {
  double cost, loss;
  int index;  // k - k_min
};

// A better choice of one layer on the lower convex hull: pays `cost` to lower the loss by `gain`.
struct HullStep {
  double cost, gain;
  int layer, index;
};

// An allocation of the first layers.
struct State {
  double cost, loss;
  uint32_t parent;
  int32_t index;
};

// Least loss of the layers from one on, by money to spend above their cheapest choices: a convex, piecewise linear
// lower bound (choices mixed), with break points cost[i], loss[i].
struct Relaxation {
  double least_cost = 0;
  std::vector<double> cost, loss;

  double operator()(double money) const {
    if (money >= cost.back()) return loss.back();
    const auto above = static_cast<size_t>(std::upper_bound(cost.begin(), cost.end(), money) - cost.begin());
    if (above == 0) return loss.front();  // short by rounding only
    const double share = (money - cost[above - 1]) / (cost[above] - cost[above - 1]);
    return loss[above - 1] + share * (loss[above] - loss[above - 1]);
  }
};

// The problem without dominated choices, and with its relaxations.
class Prepared {
 public:
  explicit Prepared(const KnapsackProblem& problem) : num_layers(problem.loss.size()) {
    MMOE_CHECK(num_layers > 0 && problem.cost.size() == num_layers) << num_layers << " layers";
    double cost_scale = 0, loss_scale = 0;
    for (size_t l = 0; l < num_layers; ++l) {
      const auto& cost = problem.cost[l];
      const auto& loss = problem.loss[l];
      MMOE_CHECK(!cost.empty() && cost.size() == loss.size()) << "layer " << l;
      std::vector<Choice> all;
      double largest_cost = 0, largest_loss = 0;
      for (size_t j = 0; j < cost.size(); ++j) {
        MMOE_CHECK(std::isfinite(cost[j]) && std::isfinite(loss[j])) << "layer " << l << ", choice " << j;
        all.push_back({cost[j], loss[j], static_cast<int>(j)});
        largest_cost = std::max(largest_cost, std::fabs(cost[j]));
        largest_loss = std::max(largest_loss, std::fabs(loss[j]));
      }
      cost_scale += largest_cost;
      loss_scale += largest_loss;
      std::sort(all.begin(), all.end(),
                [](const Choice& a, const Choice& b) { return std::pair(a.cost, a.loss) < std::pair(b.cost, b.loss); });
      auto& kept = choices.emplace_back();
      for (const Choice& choice : all) {
        if (kept.empty() || choice.loss < kept.back().loss) kept.push_back(choice);
      }
    }
    cost_tolerance = 1e-12 * cost_scale;
    loss_tolerance = 1e-12 * loss_scale;
    relax();
  }

  size_t num_layers;
  std::vector<std::vector<Choice>> choices;  // [layer]: by rising cost and falling loss
  std::vector<Relaxation> relaxation;        // [l]: of layers l, l + 1, ...; one more than there are layers
  std::vector<HullStep> steps;               // of all layers, by falling gain / cost
  double cost_tolerance, loss_tolerance;

 private:
  void relax() {
    for (size_t l = 0; l < num_layers; ++l) {
      std::vector<Choice> hull;
      for (const Choice& choice : choices[l]) {
        // Drop what lies on or above the line from its predecessor to the new choice.
        while (hull.size() >= 2) {
          const Choice &a = hull[hull.size() - 2], &b = hull.back();
          if ((a.loss - b.loss) * (choice.cost - a.cost) > (a.loss - choice.loss) * (b.cost - a.cost)) break;
          hull.pop_back();
        }
        hull.push_back(choice);
      }
      for (size_t i = 1; i < hull.size(); ++i) {
        steps.push_back(
            {hull[i].cost - hull[i - 1].cost, hull[i - 1].loss - hull[i].loss, static_cast<int>(l), hull[i].index});
      }
    }
    std::stable_sort(steps.begin(), steps.end(),
                     [](const HullStep& a, const HullStep& b) { return a.gain * b.cost > b.gain * a.cost; });
    relaxation.resize(num_layers + 1);
    for (size_t l = 0; l <= num_layers; ++l) {
      Relaxation& from = relaxation[l];
      double loss = 0, cost = 0;
      for (size_t m = l; m < num_layers; ++m) {
        from.least_cost += choices[m].front().cost;
        loss += choices[m].front().loss;
      }
      from.cost.push_back(0);
      from.loss.push_back(loss);
      for (const HullStep& step : steps) {
        if (step.layer < static_cast<int>(l)) continue;
        from.cost.push_back(cost += step.cost);
        from.loss.push_back(loss -= step.gain);
      }
    }
  }
};

KnapsackSolution solution(const KnapsackProblem& problem, const std::vector<int>& indices) {
  KnapsackSolution result;
  for (size_t l = 0; l < indices.size(); ++l) {
    const auto j = static_cast<size_t>(indices[l]);
    result.k_per_layer.push_back(problem.k_min + indices[l]);
    result.loss += problem.loss[l][j];
    result.cost += problem.cost[l][j];
  }
  return result;
}

// Sorts by cost and drops states that another one beats in both; nearly equal costs count as equal.
void drop_dominated(std::vector<State>& states, const Prepared& prepared) {
  std::sort(states.begin(), states.end(),
            [](const State& a, const State& b) { return std::pair(a.cost, a.loss) < std::pair(b.cost, b.loss); });
  size_t kept = 0;
  for (const State& state : states) {
    if (kept > 0 && state.loss >= states[kept - 1].loss - prepared.loss_tolerance) continue;
    const bool same_cost = kept > 0 && state.cost - states[kept - 1].cost <= prepared.cost_tolerance;
    states[same_cost ? kept - 1 : kept++] = state;
  }
  states.resize(kept);
}

// Walks one end state back through the layers' states.
std::vector<int> trace(const std::vector<std::vector<State>>& by_layer, size_t last) {
  std::vector<int> indices(by_layer.size());
  for (size_t l = by_layer.size(); l-- > 0;) {
    indices[l] = by_layer[l][last].index;
    last = by_layer[l][last].parent;
  }
  return indices;
}

std::vector<State> extend(const std::vector<State>& states, const std::vector<Choice>& choices) {
  std::vector<State> next;
  next.reserve(states.size() * choices.size());
  for (size_t i = 0; i < states.size(); ++i) {
    for (const Choice& choice : choices) {
      next.push_back(
          {states[i].cost + choice.cost, states[i].loss + choice.loss, static_cast<uint32_t>(i), choice.index});
    }
  }
  return next;
}

// Completes a state greedily: the relaxation's steps in order, those that fit. Returns the choices of layers `from` on.
std::vector<int> complete(const Prepared& prepared, size_t from, double money) {
  std::vector<int> indices;
  for (size_t l = from; l < prepared.num_layers; ++l) indices.push_back(prepared.choices[l].front().index);
  std::vector<char> closed(prepared.num_layers, 0);  // a step that did not fit blocks its layer's further steps
  for (const HullStep& step : prepared.steps) {
    const auto l = static_cast<size_t>(step.layer);
    if (l < from || closed[l]) continue;
    if (step.cost > money) {
      closed[l] = 1;
      continue;
    }
    money -= step.cost;
    indices[l - from] = step.index;
  }
  return indices;
}

}  // namespace

std::optional<KnapsackSolution> solve_knapsack(const KnapsackProblem& problem, double budget, size_t max_states) {
  const Prepared prepared(problem);
  budget += prepared.cost_tolerance;
  if (prepared.relaxation[0].least_cost > budget) return std::nullopt;

  KnapsackSolution best = solution(problem, complete(prepared, 0, budget - prepared.relaxation[0].least_cost));
  double dropped_bound = std::numeric_limits<double>::infinity();
  std::vector<std::vector<State>> by_layer;
  std::vector<State> states = {{0, 0, 0, 0}};
  for (size_t l = 0; l < prepared.num_layers; ++l) {
    states = extend(states, prepared.choices[l]);
    const Relaxation& rest = prepared.relaxation[l + 1];
    const auto bound = [&](const State& s) { return s.loss + rest(budget - s.cost - rest.least_cost); };
    const auto hopeless = [&](const State& s) {
      return s.cost + rest.least_cost > budget || bound(s) >= best.loss - prepared.loss_tolerance;
    };
    std::erase_if(states, hopeless);
    if (states.empty()) break;
    drop_dominated(states, prepared);
    if (states.size() > max_states) {
      // Keep the most promising; what is dropped bounds the gap.
      const auto last = states.begin() + static_cast<int64_t>(max_states);
      std::nth_element(states.begin(), last, states.end(),
                       [&](const State& a, const State& b) { return bound(a) < bound(b); });
      for (auto state = last; state != states.end(); ++state) dropped_bound = std::min(dropped_bound, bound(*state));
      states.erase(last, states.end());
      drop_dominated(states, prepared);
    }
    by_layer.push_back(states);
    // A better solution in hand prunes more: complete the most promising state.
    const auto promising = std::min_element(states.begin(), states.end(),
                                            [&](const State& a, const State& b) { return bound(a) < bound(b); });
    std::vector<int> indices = trace(by_layer, static_cast<size_t>(promising - states.begin()));
    const std::vector<int> rest_indices = complete(prepared, l + 1, budget - promising->cost - rest.least_cost);
    indices.insert(indices.end(), rest_indices.begin(), rest_indices.end());
    KnapsackSolution candidate = solution(problem, indices);
    if (candidate.loss < best.loss) best = std::move(candidate);
  }
  best.gap = std::max(0.0, best.loss - dropped_bound);
  return best;
}

KnapsackFront knapsack_front(const KnapsackProblem& problem, size_t num_budgets, size_t max_states) {
  MMOE_CHECK(num_budgets >= 2) << num_budgets;
  const Prepared prepared(problem);
  KnapsackFront front;
  std::vector<std::vector<State>> by_layer;
  std::vector<State> states = {{0, 0, 0, 0}};
  for (size_t l = 0; l < prepared.num_layers; ++l) {
    states = extend(states, prepared.choices[l]);
    drop_dominated(states, prepared);
    if (states.size() > max_states) {
      front.complete = false;
      break;
    }
    by_layer.push_back(states);
  }
  if (front.complete) {
    for (size_t i = 0; i < states.size(); ++i) front.points.push_back(solution(problem, trace(by_layer, i)));
    return front;
  }
  double most = 0;  // where a larger budget buys nothing
  for (const auto& choices : prepared.choices) most += choices.back().cost;
  const double least = prepared.relaxation[0].least_cost;
  for (size_t i = 0; i < num_budgets; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(num_budgets - 1);
    std::optional<KnapsackSolution> point = solve_knapsack(problem, least + share * (most - least));
    if (!point) continue;
    if (front.points.empty() || point->loss < front.points.back().loss) front.points.push_back(std::move(*point));
  }
  return front;
}

}  // namespace mmoe
