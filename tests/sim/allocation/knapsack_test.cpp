#include "sim/allocation/knapsack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

namespace mmoe {
namespace {

// Every allocation: k indices, cost and loss.
void for_each_allocation(const KnapsackProblem& problem,
                         const std::function<void(const std::vector<size_t>&, double, double)>& visit) {
  std::vector<size_t> choice;
  const std::function<void(double, double)> descend = [&](double cost, double loss) {
    const size_t l = choice.size();
    if (l == problem.loss.size()) return visit(choice, cost, loss);
    for (size_t j = 0; j < problem.loss[l].size(); ++j) {
      choice.push_back(j);
      descend(cost + problem.cost[l][j], loss + problem.loss[l][j]);
      choice.pop_back();
    }
  };
  descend(0, 0);
}

std::optional<double> least_loss(const KnapsackProblem& problem, double budget) {
  std::optional<double> best;
  for_each_allocation(problem, [&](const auto&, double cost, double loss) {
    if (cost <= budget * (1 + 1e-12) && (!best || loss < *best)) best = loss;
  });
  return best;
}

KnapsackProblem random_problem(std::mt19937& random, size_t layers, size_t choices, bool whole_costs) {
  std::uniform_real_distribution<double> uniform(0, 1);
  KnapsackProblem problem;
  problem.k_min = 2;
  for (size_t l = 0; l < layers; ++l) {
    auto& cost = problem.cost.emplace_back();
    auto& loss = problem.loss.emplace_back();
    for (size_t j = 0; j < choices; ++j) {
      cost.push_back(whole_costs ? static_cast<double>(j + 1) : uniform(random));
      loss.push_back(uniform(random) - 0.3);  // in no order: dominated choices and negative losses too
    }
  }
  return problem;
}

void expect_consistent(const KnapsackProblem& problem, const KnapsackSolution& solution) {
  double cost = 0, loss = 0;
  ASSERT_EQ(solution.k_per_layer.size(), problem.loss.size());
  for (size_t l = 0; l < problem.loss.size(); ++l) {
    const auto j = static_cast<size_t>(solution.k_per_layer[l] - problem.k_min);
    ASSERT_LT(j, problem.loss[l].size());
    cost += problem.cost[l][j];
    loss += problem.loss[l][j];
  }
  EXPECT_NEAR(solution.cost, cost, 1e-12);
  EXPECT_NEAR(solution.loss, loss, 1e-12);
}

TEST(Knapsack, AgreesWithBruteForce) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const size_t layers = 1 + static_cast<size_t>(trial % 6), choices = 1 + static_cast<size_t>(trial % 5);
    const KnapsackProblem problem = random_problem(random, layers, choices, trial % 2 == 0);
    for (const double share : {0.0, 0.2, 0.35, 0.5, 0.8, 1.1}) {
      const double budget = share * static_cast<double>(layers) * (trial % 2 == 0 ? static_cast<double>(choices) : 1);
      const std::optional<double> wanted = least_loss(problem, budget);
      const std::optional<KnapsackSolution> found = solve_knapsack(problem, budget);
      ASSERT_EQ(found.has_value(), wanted.has_value()) << "trial " << trial << ", budget " << budget;
      if (!found) continue;
      expect_consistent(problem, *found);
      EXPECT_LE(found->cost, budget + 1e-9);
      EXPECT_NEAR(found->loss, *wanted, 1e-9);
      EXPECT_EQ(found->gap, 0);
    }
  }
}

TEST(Knapsack, FrontIsTheUndominatedSet) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 40; ++trial) {
    const KnapsackProblem problem = random_problem(random, 5, 4, trial % 2 == 0);
    const KnapsackFront front = knapsack_front(problem);
    EXPECT_TRUE(front.complete);
    for (size_t i = 0; i < front.points.size(); ++i) {
      expect_consistent(problem, front.points[i]);
      EXPECT_NEAR(front.points[i].loss, *least_loss(problem, front.points[i].cost), 1e-9);
      if (i > 0) {
        EXPECT_GT(front.points[i].cost, front.points[i - 1].cost);
        EXPECT_LT(front.points[i].loss, front.points[i - 1].loss);
      }
    }
    for_each_allocation(problem, [&](const auto&, double cost, double loss) {
      bool covered = false;
      for (const KnapsackSolution& point : front.points) {
        covered = covered || (point.cost <= cost + 1e-9 && point.loss <= loss + 1e-9);
      }
      EXPECT_TRUE(covered) << cost << ", " << loss;
    });
  }
}

// Equal layers with convex losses: uniform k is best where the budget is a multiple, and then costs the same in any
// order of sums.
TEST(Knapsack, UniformWhereUniformIsBest) {
  KnapsackProblem problem;
  for (int l = 0; l < 64; ++l) {
    problem.loss.push_back({1.0, 0.5, 0.3, 0.2, 0.15, 0.12});
    problem.cost.push_back({0.1, 0.2, 0.3, 0.4, 0.5, 0.6});
  }
  const auto found = solve_knapsack(problem, 64 * 0.3);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->k_per_layer, std::vector<int>(64, 3));
  EXPECT_EQ(found->gap, 0);
}

TEST(Knapsack, InfeasibleIsAnAnswer) {
  const KnapsackProblem problem{1, {{1, 0}, {1, 0}}, {{2, 3}, {2, 3}}};
  EXPECT_FALSE(solve_knapsack(problem, 3.9));
  EXPECT_EQ(solve_knapsack(problem, 4)->k_per_layer, (std::vector<int>{1, 1}));
  EXPECT_EQ(solve_knapsack(problem, 5)->cost, 5);
}

// 64 layers and 8 choices with real costs: exact against the dynamic program that whole-number costs allow.
TEST(Knapsack, LargeInstancesAreExact) {
  std::mt19937 random(4);
  std::uniform_real_distribution<double> uniform(0.2, 1);
  KnapsackProblem problem;
  for (int l = 0; l < 64; ++l) {
    auto& cost = problem.cost.emplace_back();
    auto& loss = problem.loss.emplace_back();
    const double scale = uniform(random), steepness = uniform(random);
    for (int k = 1; k <= 8; ++k) {
      cost.push_back(std::round(1000 * scale * k * (0.9 + 0.2 * uniform(random))));
      loss.push_back(steepness * std::pow(k, -1.5 * uniform(random)));
    }
  }
  const int budget = 100000;
  std::vector<double> least(budget + 1, INFINITY);
  least[0] = 0;
  for (size_t l = 0; l < 64; ++l) {
    std::vector<double> next(budget + 1, INFINITY);
    for (size_t j = 0; j < 8; ++j) {
      const auto cost = static_cast<size_t>(problem.cost[l][j]);
      for (size_t c = cost; c < next.size(); ++c) next[c] = std::min(next[c], least[c - cost] + problem.loss[l][j]);
    }
    least = std::move(next);
  }
  const double wanted = *std::min_element(least.begin(), least.end());
  const auto found = solve_knapsack(problem, budget);
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->loss, wanted, 1e-9);
  EXPECT_EQ(found->gap, 0);
  for (auto& layer : problem.cost) {
    for (double& cost : layer) cost *= 1e-3 * std::sqrt(2);  // the same problem in irrational numbers
  }
  EXPECT_NEAR(solve_knapsack(problem, budget * 1e-3 * std::sqrt(2))->loss, wanted, 1e-9);
}

TEST(Knapsack, GapCoversWhatMergingLost) {
  std::mt19937 random(6);
  int merged = 0;
  for (int trial = 0; trial < 40; ++trial) {
    const KnapsackProblem problem = random_problem(random, 12, 6, false);
    const double exact = solve_knapsack(problem, 4)->loss;
    const auto found = solve_knapsack(problem, 4, 2);
    ASSERT_TRUE(found);
    EXPECT_LE(found->cost, 4 + 1e-9);
    EXPECT_LE(found->loss - found->gap, exact + 1e-9);
    merged += found->gap > 0;
  }
  EXPECT_GT(merged, 0);
}

TEST(Knapsack, HugeFrontsAreSampled) {
  std::mt19937 random(8);
  const KnapsackProblem problem = random_problem(random, 20, 6, false);
  const KnapsackFront front = knapsack_front(problem, 16, 50);
  EXPECT_FALSE(front.complete);
  EXPECT_GE(front.points.size(), 10u);
  for (size_t i = 1; i < front.points.size(); ++i) {
    EXPECT_GT(front.points[i].cost, front.points[i - 1].cost);
    EXPECT_LT(front.points[i].loss, front.points[i - 1].loss);
    EXPECT_NEAR(front.points[i].loss, solve_knapsack(problem, front.points[i].cost)->loss, 1e-9);
  }
}

}  // namespace
}  // namespace mmoe
