#pragma once
// A backend of c10d that sends nothing and counts what it is given: one rank of any world, alone.

#include <map>
#include <memory>
#include <string>

#include "train/parallel/communicator.h"

namespace mmoe {

// What one rank hands to the backends of its groups.
struct CountedMessages {
  std::map<std::string, TrafficByCollective> by_group;  // calls and bytes, as Traffic says
};

// Where a reduce-scatter sums: over Gloo in a copy of its whole input, which is there until it is waited for.
enum class SumsIn { kPlace, kCopy };

// A backend of the group `name`, of which this rank has `position`. Transfers are over at once; outputs stay as they
// are. `messages` is shared by all groups of the rank.
c10::intrusive_ptr<c10d::Backend> counting_backend(std::string name, int position, int size, SumsIn sums,
                                                   std::shared_ptr<CountedMessages> messages);

}  // namespace mmoe
