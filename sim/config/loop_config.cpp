// The sections `data` and `loop`, which only `mmoe loop` needs.

#include <cmath>
#include <numeric>

#include "sim/config/sections.h"

namespace mmoe {

DataConfig read_data(JsonReader& root, const std::string& folder) {
  JsonReader section = root.child("data");
  DataConfig data;
  section.read("text", data.text);
  for (std::string& file : data.text) {
    if (file.empty()) section.fail("text", "holds an empty path");
    file = resolve_path(file, folder);
  }
  section.read("tokenizer", data.tokenizer);
  if (data.tokenizer != "bytes" && data.tokenizer != "sentencepiece") {
    section.fail("tokenizer", "is unknown; use one of bytes, sentencepiece");
  }
  section.read("vocab_size", data.vocab_size, 0, 1 << 26);
  section.read("split", data.split);
  bool shares = data.split.size() == 4;
  for (const double share : data.split) shares = shares && share >= 0 && share <= 1;
  const double sum = std::accumulate(data.split.begin(), data.split.end(), 0.0);
  if (!shares || std::fabs(sum - 1) > 1e-6) {
    section.fail("split",
                 "must be four shares that sum to 1: train, valid, search, test, e.g. [0.9, 0.04, 0.03, 0.03]");
  }
  section.finish();
  return data;
}

LoopConfig read_loop(JsonReader& root) {
  JsonReader section = root.child("loop");
  LoopConfig loop;
  section.read("allocation_mean_k", loop.allocation_mean_k, 0, 1e6);
  section.read("eval_sequences", loop.eval_sequences, 0, 1 << 30);
  section.finish();
  return loop;
}

}  // namespace mmoe
