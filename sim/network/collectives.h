#pragma once
// Times of collective operations on a group of ranks, by latency and bandwidth of each level (alpha-beta model).
//
// Sizes are nccl-tests': the whole buffer of one rank, so the gathered one of all_gather, the one given to
// reduce_scatter, all that a rank holds for the others (and itself) in all_to_all. A group of one rank takes no time.
//
// Across nodes NCCL pipelines chunks, so a level's traffic hides behind the slowest level's; m members of a group in
// one node drive m ports at once. With n members, b the bandwidth and a the latency of one hop:
//   ring    1 - 1/n of the buffer crosses each link, all-reduce twice; n - 1 hops in line, all-reduce 2 (n - 1)
//   tree    (all-reduce) the buffer up and down, twice out of each rank; between two nodes once, as each is the root
//           of one of the two trees; 2 (m - 1) hops in the node and 2 log2(nodes) across
//   switch  (all-reduce; NVLink SHARP) 1 + 1/m of the buffer out of each rank of a node, a tree across nodes
// The least of those that the fabric offers is taken, as NCCL's tuner does. Where the cluster file has a table of the
// collective measured at the outermost level that the group reaches (FabricLevel::measured), it decides instead,
// start-up and latency included, by the bytes that cross one device's link there: for groups of other sizes too.
// Sources: Thakur, Rabenseifner, Gropp 2005 (IJHPCA 19:49), sections 4.1 and 4.5; Chan, Heimlich, Purkayastha, van de
// Geijn 2007 (CCPE 19:1749); Sanders, Speck, Traeff 2009 (double binary trees); NCCL 2.28 tuning model; nccl-tests
// PERFORMANCE.md (bus bandwidth).

#include <cstdint>

#include "sim/network/network.h"
#include "sim/network/rank_groups.h"
#include "sim/units/units.h"

namespace mmoe {

Seconds all_reduce(const Network& network, const GroupPlacement& group, Bytes size);
Seconds reduce_scatter(const Network& network, const GroupPlacement& group, Bytes size);
Seconds all_gather(const Network& network, const GroupPlacement& group, Bytes size);
Seconds broadcast(const Network& network, const GroupPlacement& group, Bytes size);

// Every rank to every other, directly. `hottest` is the larger of what the busiest rank sends and receives, its own
// share included; its partners are taken as evenly spread. Levels run side by side.
Seconds all_to_all(const Network& network, const GroupPlacement& group, Bytes hottest);

// In two phases, one after the other: `across` nodes between ranks of equal place (each token once a node), then
// `within` the node. Both of the busiest rank; what stays on it is not counted.
Seconds hierarchical_all_to_all(const Network& network, const GroupPlacement& group, Bytes across, Bytes within);

// From one member to the next, where the two are farthest apart (a pipeline is as slow as its slowest hop).
Seconds send(const Network& network, const GroupPlacement& group, Bytes size);

// The outermost level that a group's transfers cross; -1 for a group of one.
int farthest_level(const GroupPlacement& group);

// The same by kind, for what every rank hands to the call itself: of an all-gather its own part.
Seconds collective_seconds(const Network& network, const GroupPlacement& group, Collective collective, Bytes input);

// nccl-tests' bus bandwidth of a measured or predicted time: what each link must have carried.
BytesPerSecond bus_bandwidth(Collective collective, int64_t num_ranks, Bytes size, Seconds time);

}  // namespace mmoe
