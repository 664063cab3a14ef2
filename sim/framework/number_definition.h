#pragma once
// A number of a framework file: its name, where it goes, and the range that physics allows.

#include <string_view>

namespace mmoe {

template <class Struct>
struct NumberDefinition {
  std::string_view name;
  double Struct::*value;
  double low, high;
  std::string_view meaning;
};

}  // namespace mmoe
