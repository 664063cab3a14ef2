#include "sim/memory/peak_terms.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/memory/step_memory.h"
#include "tests/sim/memory/memory_testing.h"

namespace mmoe {
namespace {

double peak_by_terms(const PeakTerms& peak, const std::vector<int>& k, int k_min) {
  double highest = peak.least.value, sum = 0;
  for (size_t l = 0; l < k.size(); ++l) {
    sum += k[l];
    highest = std::max(highest, peak.persistent.value + peak.terms.fixed[l] + peak.terms.slope * sum +
                                    peak.terms.bump[l][k[l] - k_min]);
  }
  return highest;
}

// Every draw of three layers: the terms are a rewriting of the timeline, so only rounding of sums of about 1e7 remains.
TEST(PeakTerms, EqualTheTimelineForEveryDraw) {
  for (const char* changes :
       {"{}", R"({"training": {"recompute": "full"}})", R"({"training": {"recompute": ["moe"]}})",
        R"({"training": {"recompute": ["attention"]}})", R"({"model": {"vocab_size": 64}})",
        R"({"model": {"num_layers": 4, "num_dense_layers": 1, "dense_hidden_size": 2048, "vocab_size": 64}})",
        R"({"model": {"shared_expert_hidden_size": 128}})"}) {
    const Job job = small_memory_job(changes);
    const PeakTerms terms = peak_terms(job);
    for (int a = 1; a <= 4; ++a) {
      for (int b = 1; b <= 4; ++b) {
        for (int c = 1; c <= 4; ++c) {
          EXPECT_NEAR(peak_by_terms(terms, {a, b, c}, 1), step_peak(job, {a, b, c}).total.value, 1e-6)
              << changes << " k = " << a << b << c;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mmoe
