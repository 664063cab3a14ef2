#include "sim/plan/simulate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "sim/elastic/budget_plan.h"
#include "sim/elastic/elastic_law.h"
#include "sim/elastic/running_maximum.h"
#include "sim/memory/peak_terms.h"
#include "sim/plan/fit_probability.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Steps that a promise about memory covers when the job gives no length.
constexpr double kConfidence = 0.99;

// The law of a job's draws; none where nothing is drawn (dense models, top_p).
std::optional<ElasticLaw> law_of(const Job& job) {
  if (job.model.num_moe_layers() == 0 || job.elastic.sampling == Sampling::kTopP) return std::nullopt;
  return ElasticLaw(job.elastic, static_cast<int>(job.model.num_moe_layers()));
}

// Law of one micro-batch's peak in bytes, framework included.
ValueLaw micro_batch_peak(const Job& job, const std::optional<ElasticLaw>& law, Bytes framework) {
  const PeakTerms terms = peak_terms(job);
  const double offset = terms.persistent.value + framework.value;
  if (!law) {
    const StepPeak peak = step_peak(job, std::vector<int>(job.model.num_moe_layers(), job.elastic.k_max));
    return ValueLaw({{peak.total.value + framework.value, 1.0}});
  }
  const ValueLaw drawn = running_maximum(*law, terms.terms).values.scaled(1, offset);
  std::vector<std::pair<double, double>> outcomes;
  for (size_t i = 0; i < drawn.values().size(); ++i) {
    outcomes.emplace_back(std::max(drawn.values()[i], terms.least.value + framework.value), drawn.probabilities()[i]);
  }
  return ValueLaw(std::move(outcomes));
}

// A draw of the largest sum that the law allows: each group filled from its last layer on or from its first, or evenly.
enum class Fill { kFront, kBack, kEven };
std::vector<int> largest_draw(const Job& job, const ElasticLaw& law, Fill fill) {
  const int k_min = job.elastic.k_min, k_max = job.elastic.k_max;
  if (law.one_k_for_all_layers()) {
    return std::vector<int>(law.num_layers(), static_cast<int>(law.shared_draw().max()));
  }
  std::vector<int> k(law.num_layers(), k_min);
  int begin = 0;
  for (int group = 0; group < law.num_groups(); ++group) {
    const int size = static_cast<int>(law.group_sizes()[group]);
    int64_t left = law.sum_of_group(group).max() - static_cast<int64_t>(size) * k_min;
    if (fill == Fill::kEven) {
      for (int round = 0; left > 0 && round < k_max - k_min; ++round) {
        for (int i = 0; i < size && left > 0; ++i, --left) ++k[begin + i];
      }
    } else {
      for (int i = 0; i < size && left > 0; ++i) {
        int& chosen = k[fill == Fill::kFront ? begin + i : begin + size - 1 - i];
        const auto more = static_cast<int>(std::min<int64_t>(left, k_max - k_min));
        chosen += more;
        left -= more;
      }
    }
    begin += size;
  }
  return k;
}

// The parts of the worst draw's peak. `largest` is its exact height; of the draws of the largest sum the one that comes
// nearest gives the parts, and what is missing goes to the activations.
StepPeak worst_peak(const Job& job, const std::optional<ElasticLaw>& law, double largest) {
  StepPeak worst = step_peak(job, law ? largest_draw(job, *law, Fill::kEven)
                                      : std::vector<int>(job.model.num_moe_layers(), job.elastic.k_max));
  if (!law) return worst;
  for (const Fill fill : {Fill::kFront, Fill::kBack}) {
    const StepPeak other = step_peak(job, largest_draw(job, *law, fill));
    if (other.total > worst.total) worst = other;
  }
  worst.activations += Bytes{largest} - worst.total;
  worst.total = Bytes{largest};
  return worst;
}

struct FitInputs {
  ValueLaw micro_batch;  // law of one micro-batch's peak
  double draws_per_step;
};

FitInputs fit_inputs(const Job& job, Bytes framework) {
  const std::optional<ElasticLaw> law = law_of(job);
  const auto draws = law ? static_cast<double>(law->independent_draws(job.num_micro_batches())) : 1;
  return {micro_batch_peak(job, law, framework), draws};
}

double probability_of(const Job& job, const FitInputs& inputs, int64_t horizon, double spread) {
  const double draws = inputs.draws_per_step * static_cast<double>(horizon);
  return fit_probability([&](double limit) { return inputs.micro_batch.cdf_of_maximum(limit, draws); },
                         job.hardware.usable_memory.value, spread);
}

std::vector<Remedy> remedies(const Job& job, const Calibration& calibration, int64_t horizon,
                             double tokens_per_second) {
  return find_remedies(job, tokens_per_second, kConfidence, [&](const Job& other) {
    const FitInputs inputs = fit_inputs(other, calibration.framework_overhead());
    return Outcome{probability_of(other, inputs, horizon, calibration.peak_bytes_spread),
                   predict_throughput(other, calibration).tokens_per_second_per_device};
  });
}

}  // namespace

Plan simulate(const Job& job, const Calibration& calibration) {
  if (job.hardware.num_devices != 1) {
    throw ConfigError(job.where + ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) +
                      ", but one device is what can be simulated; set it to 1");
  }
  Plan plan;
  plan.job = job;
  plan.calibration_source = calibration.source;
  plan.run_steps = job.training.num_steps();
  plan.throughput = predict_throughput(job, calibration);

  const std::optional<ElasticLaw> law = law_of(job);
  plan.memory.framework = calibration.framework_overhead();
  const FitInputs inputs = fit_inputs(job, plan.memory.framework);
  plan.peak_allocated = inputs.micro_batch.maximum(inputs.draws_per_step).summary();
  plan.sum_k =
      law ? law->sum().summary() : DiscreteLaw::certain(job.elastic.k_max * job.model.num_moe_layers()).summary();
  plan.memory.persistent = persistent_memory(job);
  plan.memory.peak = worst_peak(job, law, plan.peak_allocated.max - plan.memory.framework.value);
  for (int64_t layer = 0; layer < job.model.num_layers; ++layer) {
    const double slope = job.model.is_moe_layer(layer) ? kept_bytes_per_k(job) : 0;
    plan.memory.layers.push_back({layer, Bytes{layer_memory(job, layer, 1).kept - slope}, Bytes{slope}});
  }
  plan.peak_interval = error_interval(plan.memory.total().value, calibration.peak_bytes_spread);

  Fit& fit = plan.fit;
  fit.confidence = kConfidence;
  fit.horizon_steps = budget_horizon(job, {});
  fit.limit = job.hardware.usable_memory;
  fit.probability = probability_of(job, inputs, fit.horizon_steps, calibration.peak_bytes_spread);
  fit.verdict = fit.probability >= kConfidence       ? FitVerdict::kFits
                : fit.probability >= 1 - kConfidence ? FitVerdict::kAtRisk
                                                     : FitVerdict::kDoesNotFit;
  if (fit.verdict != FitVerdict::kFits) {
    fit.remedies = remedies(job, calibration, fit.horizon_steps, plan.throughput.tokens_per_second_per_device);
  }
  return plan;
}

const char* to_string(FitVerdict verdict) {
  switch (verdict) {
    case FitVerdict::kFits:
      return "fits";
    case FitVerdict::kAtRisk:
      return "at_risk";
    default:
      return "does_not_fit";
  }
}

}  // namespace mmoe
