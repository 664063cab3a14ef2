#pragma once
// Rows in the columns of the published tables, for tests.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

inline constexpr const char* kPublishedColumns[] = {"id",
                                                    "source",
                                                    "table",
                                                    "model",
                                                    "framework",
                                                    "hardware",
                                                    "n_gpus",
                                                    "layers",
                                                    "hidden",
                                                    "ffn",
                                                    "heads",
                                                    "kv_heads",
                                                    "experts",
                                                    "topk",
                                                    "expert_ffn",
                                                    "shared_expert_ffn",
                                                    "moe_layer_freq",
                                                    "vocab",
                                                    "seq",
                                                    "tp",
                                                    "pp",
                                                    "vpp",
                                                    "pp_layout",
                                                    "dp",
                                                    "ep",
                                                    "etp",
                                                    "cp",
                                                    "sp",
                                                    "sharding",
                                                    "micro_batch",
                                                    "global_batch",
                                                    "precision",
                                                    "recompute",
                                                    "routing",
                                                    "flags",
                                                    "status",
                                                    "iter_time_s",
                                                    "tflops_per_gpu",
                                                    "mfu_pct",
                                                    "tokens_s_gpu",
                                                    "mem_GiB",
                                                    "mem_kind",
                                                    "mem_static_GiB",
                                                    "allreduce_GBps",
                                                    "allgather_GBps",
                                                    "reducescatter_GBps",
                                                    "pred_iter_time_s",
                                                    "pred_mem_GiB",
                                                    "notes"};

// A table of rows, each given by the columns that are not empty.
inline std::string published_table(const std::vector<std::map<std::string, std::string>>& rows) {
  std::string text;
  const auto field = [&](const char* column, const std::string& value) {
    if (std::string_view(column) != kPublishedColumns[0]) text += ',';
    text += value;
  };
  for (const char* column : kPublishedColumns) field(column, column);
  for (const auto& row : rows) {
    text += '\n';
    for (const char* column : kPublishedColumns) {
      std::string value;
      if (row.contains(column)) value.append("\"").append(row.at(column)).append("\"");
      field(column, value);
    }
  }
  text += '\n';
  return text;
}

// A Llama of 70 B on 64 H100s under NeMo.
inline std::map<std::string, std::string> nemo_row() {
  return {{"id", "r1"},
          {"framework", "NeMo (Megatron-Core)"},
          {"hardware", "DGX-H100"},
          {"n_gpus", "64"},
          {"layers", "80"},
          {"hidden", "8192"},
          {"ffn", "28672"},
          {"heads", "64"},
          {"kv_heads", "8"},
          {"vocab", "128256"},
          {"seq", "8192"},
          {"tp", "4"},
          {"pp", "4"},
          {"vpp", "5"},
          {"micro_batch", "1"},
          {"global_batch", "128"},
          {"precision", "bf16"},
          {"iter_time_s", "10"}};
}

}  // namespace mmoe
