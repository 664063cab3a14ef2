#include "sim/config/enum_names.h"

#include <array>

namespace mmoe {

#define MMOE_ENUM_NAMES(Enum, ...)                                             \
  template <>                                                                  \
  std::span<const EnumName<Enum>> enum_names<Enum>() {                         \
    using enum Enum;                                                           \
    static constexpr auto kNames = std::to_array<EnumName<Enum>>(__VA_ARGS__); \
    return kNames;                                                             \
  }

MMOE_ENUM_NAMES(QkNorm, {{kNone, "none"}, {kPerHead, "per_head"}, {kFull, "full"}})
MMOE_ENUM_NAMES(AttentionKind, {{kGrouped, "grouped"}, {kLatent, "latent"}})
MMOE_ENUM_NAMES(Activation, {{kSwiGlu, "swiglu"}, {kGelu, "gelu"}, {kSquaredRelu, "squared_relu"}})
MMOE_ENUM_NAMES(NormKind, {{kRms, "rms"}, {kLayer, "layer"}})
MMOE_ENUM_NAMES(PositionKind, {{kRotary, "rotary"}, {kLearned, "learned"}, {kNone, "none"}})
MMOE_ENUM_NAMES(AttentionBackend, {{kFlash, "flash"}, {kUnfused, "unfused"}})
MMOE_ENUM_NAMES(ExpertSaving, {{kAll, "all"}, {kLean, "lean"}, {kRecompute, "recompute"}})
MMOE_ENUM_NAMES(OperationSet, {{kKernels, "kernels"}, {kAten, "aten"}})
MMOE_ENUM_NAMES(Packing, {{kConcatenate, "concatenate"}, {kBestFit, "best_fit"}})
MMOE_ENUM_NAMES(ContextKind, {{kRing, "ring"}, {kAllToAll, "alltoall"}})
MMOE_ENUM_NAMES(GateNormalization, {{kNone, "none"}, {kSelected, "selected"}, {kReference, "reference"}})
MMOE_ENUM_NAMES(AllocatorKind, {{kDefault, "default"}, {kExpandableSegments, "expandable_segments"}})
MMOE_ENUM_NAMES(PipelineSchedule,
                {{kOneForwardOneBackward, "1F1B"}, {kInterleaved, "interleaved"}, {kZeroBubble, "zero_bubble"}})
MMOE_ENUM_NAMES(Precision,
                {{kFp64, "fp64"}, {kFp32, "fp32"}, {kBf16, "bf16"}, {kFp16, "fp16"}, {kFp8, "fp8"}, {kFp4, "fp4"}})
MMOE_ENUM_NAMES(LearningRateSchedule, {{kCosine, "cosine"}, {kWsd, "wsd"}, {kConstant, "constant"}})
MMOE_ENUM_NAMES(DispatchKind, {{kDropless, "dropless"}, {kCapacity, "capacity"}, {kPadded, "padded"}})
MMOE_ENUM_NAMES(Offload, {{kNone, "none"}, {kOptimizer, "optimizer"}, {kActivations, "activations"}})
MMOE_ENUM_NAMES(DispatcherKind, {{kAllToAll, "alltoall"}, {kAllGather, "allgather"}, {kHierarchical, "hierarchical"}})
MMOE_ENUM_NAMES(LoadKind,
                {{kBalanced, "balanced"}, {kZipf, "zipf"}, {kDirichlet, "dirichlet"}, {kMeasured, "measured"}})
MMOE_ENUM_NAMES(Granularity, {{kGlobalBatch, "global_batch"}, {kMicroBatch, "micro_batch"}, {kLayer, "layer"}})
MMOE_ENUM_NAMES(Sampling, {{kUniform, "uniform"},
                           {kCapacityWeighted, "capacity_weighted"},
                           {kTilted, "tilted"},
                           {kFixed, "fixed"},
                           {kTopP, "top_p"}})
MMOE_ENUM_NAMES(BudgetKind, {{kAtMost, "at_most"}, {kExact, "exact"}, {kWindow, "window"}})
MMOE_ENUM_NAMES(BudgetMethod, {{kCondition, "condition"}, {kReject, "reject"}, {kClip, "clip"}, {kRescale, "rescale"}})
MMOE_ENUM_NAMES(Collective, {{kAllReduce, "all_reduce"},
                             {kReduceScatter, "reduce_scatter"},
                             {kAllGather, "all_gather"},
                             {kAllToAll, "all_to_all"},
                             {kBroadcast, "broadcast"},
                             {kSend, "send"}})
MMOE_ENUM_NAMES(DrawSharing, {{kNone, "none"}, {kReplicas, "replicas"}})

#undef MMOE_ENUM_NAMES

}  // namespace mmoe
