#pragma once
// On how many nodes a token's experts lie.

#include "sim/config/model_config.h"

namespace mmoe {

// Expected number of nodes, of `nodes` that hold equal parts of a layer's experts in their order, on which at least one
// of a token's k experts lies, under balanced routing:
//   nodes x sum over j of P(j) (1 - (1 - j/M)^k)
// with j of a node's g = G / nodes groups among the M = topk_group that the token may use of G = n_group:
// hypergeometric. Where g is no whole number nodes hold one group more or less, and the sum is taken between the two; a
// group over several nodes (g < 1) is used with probability M/G and reaches one of them with (1 - (1 - g/M)^k). Without
// a limit (M = G) all is nodes x (1 - (1 - 1/nodes)^k). Never more than M where a group lies on one node. Source:
// DeepSeek-V3 (arXiv:2412.19437), section 2.1.2, node-limited routing. Assumes that every set of M groups is as likely,
// and takes the k experts as drawn from them with replacement.
double expected_nodes(const ModelConfig& model, double nodes, double k);

}  // namespace mmoe
