#include "sim/formulas/routed_nodes.h"

#include <algorithm>
#include <cmath>

namespace mmoe {
namespace {

// That `drawn` of `groups`, without replacement, are all among `wanted` of them.
double all_among(double wanted, double groups, double drawn) {
  double probability = 1;
  for (double i = 0; i < drawn; ++i) probability *= (wanted - i) / (groups - i);
  return probability;
}

// That a token reaches a node with a whole number of groups, of which it may use `limit` of `groups`.
double reaches_node(double on_node, double groups, double limit, double k) {
  const double elsewhere = groups - on_node;
  // From the fewest that can be of this node: none, or all but those that are left out.
  double j = std::max(0.0, limit - elsewhere);
  double probability = j == 0 ? all_among(elsewhere, groups, limit) : all_among(on_node, groups, groups - limit);
  double sum = 0;
  for (; j <= std::min(on_node, limit); ++j) {
    sum += probability * (1 - std::pow(1 - j / limit, k));
    probability *= (on_node - j) * (limit - j) / ((j + 1) * (elsewhere - limit + j + 1));
  }
  return sum;
}

}  // namespace

double expected_nodes(const ModelConfig& model, double nodes, double k) {
  if (!model.limits_groups()) return nodes * (1 - std::pow(1 - 1 / nodes, k));
  const auto groups = static_cast<double>(model.n_group), limit = static_cast<double>(model.topk_group);
  const double on_node = groups / nodes;
  if (on_node < 1) return nodes * limit / groups * (1 - std::pow(1 - on_node / limit, k));
  const double fewer = std::floor(on_node), share = on_node - fewer;
  double reached = (1 - share) * reaches_node(fewer, groups, limit, k);
  if (share > 0) reached += share * reaches_node(fewer + 1, groups, limit, k);
  return nodes * reached;
}

}  // namespace mmoe
