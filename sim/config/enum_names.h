#pragma once
// The words that stand for enum values in job files and on screen.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sim/config/elastic_config.h"
#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"
#include "sim/config/parallelism_config.h"
#include "sim/config/training_config.h"

namespace mmoe {

template <class E>
struct EnumName {
  E value;
  std::string_view name;
};

// All values of an enum with their words, in order of declaration.
template <class E>
std::span<const EnumName<E>> enum_names();

template <>
std::span<const EnumName<QkNorm>> enum_names();
template <>
std::span<const EnumName<AttentionKind>> enum_names();
template <>
std::span<const EnumName<Activation>> enum_names();
template <>
std::span<const EnumName<NormKind>> enum_names();
template <>
std::span<const EnumName<PositionKind>> enum_names();
template <>
std::span<const EnumName<AttentionBackend>> enum_names();
template <>
std::span<const EnumName<ContextKind>> enum_names();
template <>
std::span<const EnumName<ExpertSaving>> enum_names();
template <>
std::span<const EnumName<OperationSet>> enum_names();
template <>
std::span<const EnumName<Packing>> enum_names();
template <>
std::span<const EnumName<GateNormalization>> enum_names();
template <>
std::span<const EnumName<AllocatorKind>> enum_names();
template <>
std::span<const EnumName<PipelineSchedule>> enum_names();
template <>
std::span<const EnumName<Precision>> enum_names();
template <>
std::span<const EnumName<LearningRateSchedule>> enum_names();
template <>
std::span<const EnumName<DispatchKind>> enum_names();
template <>
std::span<const EnumName<DispatcherKind>> enum_names();
template <>
std::span<const EnumName<Offload>> enum_names();
template <>
std::span<const EnumName<LoadKind>> enum_names();
template <>
std::span<const EnumName<Granularity>> enum_names();
template <>
std::span<const EnumName<Sampling>> enum_names();
template <>
std::span<const EnumName<BudgetKind>> enum_names();
template <>
std::span<const EnumName<BudgetMethod>> enum_names();
template <>
std::span<const EnumName<DrawSharing>> enum_names();
template <>
std::span<const EnumName<Collective>> enum_names();

// The word of an enum value: name_of(Precision::kBf16) is "bf16".
template <class E>
std::string name_of(E value) {
  for (const auto& entry : enum_names<E>()) {
    if (entry.value == value) return std::string(entry.name);
  }
  return "?";
}

// The value that a word stands for; nothing where it is none of them.
template <class E>
std::optional<E> value_named(std::string_view word) {
  for (const auto& entry : enum_names<E>()) {
    if (entry.name == word) return entry.value;
  }
  return std::nullopt;
}

}  // namespace mmoe
