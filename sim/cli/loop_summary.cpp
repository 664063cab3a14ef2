#include "sim/cli/loop_summary.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <map>
#include <sstream>
#include <vector>

#include "sim/config/json_text.h"
#include "sim/elastic/elastic_law.h"
#include "sim/units/errors.h"
#include "sim/units/units.h"

namespace mmoe {
namespace {

using nlohmann::json;

// A JSON file whose missing keys are errors that name the file.
struct Document {
  std::string path;
  json content;

  const json& at(const std::string& pointer) const {
    const json::json_pointer place(pointer);
    if (!content.contains(place))
      throw ConfigError(path + ": key " + pointer.substr(1) + " is missing; remove this file to make it again");
    return content[place];
  }
  double number(const std::string& pointer) const {
    const json& value = at(pointer);
    if (!value.is_number())
      throw ConfigError(path + ": " + pointer.substr(1) + " is no number; remove this file to make it again");
    return value.get<double>();
  }
};

Document read(const std::string& path) { return {path, read_json_file(path)}; }

// One column of metrics.jsonl, by step.
struct Metrics {
  std::vector<double> seconds, peak_bytes, loss;
  double tokens = 0;
};

Metrics read_metrics(const std::string& path) {
  Metrics metrics;
  for (json& line : read_json_lines(path, "run mmoe loop again to make it")) {
    const Document record{path, std::move(line)};
    metrics.seconds.push_back(record.number("/seconds"));
    metrics.peak_bytes.push_back(record.number("/peak_allocated_bytes"));
    metrics.loss.push_back(record.number("/loss"));
    metrics.tokens = record.number("/tokens");
  }
  if (metrics.loss.empty()) throw ConfigError(path + ": holds no step");
  return metrics;
}

// The value below which a fraction q of `values` lies, between neighbours by linear interpolation.
double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const std::size_t below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<double> from_step(const std::vector<double>& values, std::size_t first_step) {
  const std::size_t dropped = std::min(first_step - 1, values.size() - 1);
  return {values.begin() + static_cast<std::ptrdiff_t>(dropped), values.end()};
}

// Medians of equal parts of a run, one after the other; of a short one fewer parts, so that each has 20 steps.
std::vector<double> medians_of_parts(const std::vector<double>& values) {
  const std::size_t parts = std::clamp<std::size_t>(values.size() / 20, 1, 8);
  std::vector<double> medians;
  for (std::size_t i = 0; i < parts; ++i) {
    const auto place = [&](std::size_t part) {
      return values.begin() + static_cast<std::ptrdiff_t>(part * values.size() / parts);
    };
    medians.push_back(quantile({place(i), place(i + 1)}, 0.5));
  }
  return medians;
}

// Draws of k alone move the median of many steps by far less than this.
constexpr double kSteadyMachine = 1.1;

json beside(double measured, double before, double after) {
  return {{"measured", measured},
          {"predicted_before", before},
          {"predicted_after", after},
          {"error_fraction_before", before / measured - 1},
          {"error_fraction_after", after / measured - 1}};
}

// The keys of `names` that `from` has.
json picked(const json& from, std::initializer_list<const char*> names) {
  json result = json::object();
  for (const char* name : names) {
    if (from.contains(name)) result[name] = from[name];
  }
  return result;
}

// The exact law of the sum of k_l over each group of layers, as [[sum, probability], ...], with and without the budget.
json sum_laws(const Job& job) {
  const ElasticLaw with(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  const auto by_group = [](const ElasticLaw& law) {
    json groups = json::array();
    for (int group = 0; group < law.num_groups(); ++group) {
      const DiscreteLaw sum = law.sum_of_group(group);
      json pairs = json::array();
      for (int64_t value = sum.min(); value <= sum.max(); ++value) pairs.push_back({value, sum.probability(value)});
      groups.push_back(std::move(pairs));
    }
    return groups;
  };
  return {{"groups", with.group_sizes()}, {"with", by_group(with)}, {"without", by_group(with.without_budget())}};
}

// The job's budget and, where `mmoe budget` lists it among the undominated ones, what it saves and costs.
json own_budget(const Job& job, const std::string& run) {
  json budget = to_json(job)["elastic"]["budget"];
  const Document tuned = read(run + "/budget.json");
  for (const json& point : tuned.content.value("front", json::array())) {
    if (point.value("budget", json()) != budget) continue;
    budget.update(
        picked(point, {"saving_fraction", "kl_divergence", "expected_sum_k_fraction", "peak_allocated_bytes"}));
  }
  return budget;
}

std::string percent(double fraction, bool sign = true) {
  std::ostringstream text;
  text << (sign ? std::showpos : std::noshowpos) << std::fixed << std::setprecision(1) << 100 * fraction << " %";
  return text.str();
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

// A line of k, a line of losses.
void print_losses(const json& summary, std::ostream& out) {
  const json& evaluation = summary.at("evaluation");
  const bool in_bits = evaluation.contains("bits_per_byte_by_k");
  const json& losses = in_bits ? evaluation["bits_per_byte_by_k"] : evaluation.at("loss_by_k");
  std::map<int, double> by_k;
  for (const auto& [k, loss] : losses.items()) by_k[std::stoi(k)] = loss.get<double>();
  out << '\n' << std::left << std::setw(24) << "active experts k" << std::right;
  for (const auto& [k, loss] : by_k) out << std::setw(8) << k;
  out << '\n' << std::left << std::setw(24) << (in_bits ? "bits per byte" : "nats per token") << std::right;
  for (const auto& [k, loss] : by_k) out << std::setw(8) << fixed(loss, 3);
  out << '\n';
}

std::string training_sentence(const json& summary) {
  const json& evaluation = summary.at("evaluation");
  std::string text = "Trained " + std::to_string(summary.at("/training/steps"_json_pointer).get<int64_t>()) + " steps";
  if (evaluation.contains("bits_per_byte_by_k")) {
    double best = HUGE_VAL;
    for (const json& loss : evaluation["bits_per_byte_by_k"]) best = std::min(best, loss.get<double>());
    text += "; on text it has not seen the model needs " + fixed(best, 3) + " bits per byte at its best k";
    const json& entropy = summary.at("/text/unigram_entropy_bits_per_byte"_json_pointer);
    if (entropy.is_number()) {
      text += ", a model that ignores context at least " + fixed(entropy.get<double>(), 3);
    }
  }
  return text + ".";
}

std::string allocation_sentence(const json& allocation) {
  const double difference = allocation.at("verified_loss").get<double>() - allocation.at("uniform_loss").get<double>();
  std::string text = "k per layer " + allocation.at("k_per_layer").dump() +
                     " differs from uniform k at equal cost by " + (difference < 0 ? "" : "+") + fixed(difference, 4) +
                     " nats per token on text that the search never saw";
  const json interval = allocation.value("interval", json());
  if (interval.is_array() && interval.size() == 2) {
    const double low = interval[0].get<double>(), high = interval[1].get<double>();
    text += " (interval " + fixed(low, 4) + " to " + fixed(high, 4) + "): ";
    text += high < 0  ? "it is better"
            : low > 0 ? "uniform is better"
                      : "uniform is as good, as far as this text can tell";
  }
  return text + ".";
}

std::string budget_sentence(const json& budget) {
  const json saving = budget.value("saving_fraction", json::object());
  std::string text = "The activation budget held every draw";
  if (saving.contains("p99") && saving["p99"].is_number()) {
    text += " and is predicted to save " + percent(saving["p99"].get<double>(), false) + " of the unbudgeted peak";
  }
  return text + ".";
}

}  // namespace

json summarize_run(const Job& job, const std::string& run, const std::string& data_prefix) {
  const Document before = read(run + "/plan.json"), after = read(run + "/plan_calibrated.json");
  const Document evaluation = read(run + "/eval.json"), allocation = read(run + "/allocation.json");
  const Document tokens = read(data_prefix + ".json");
  const Metrics metrics = read_metrics(run + "/metrics.jsonl");
  const std::size_t num_steps = metrics.loss.size();
  const std::size_t first_timed_step = 1 + std::min<std::size_t>(10, (num_steps + 9) / 10);

  json summary = {{"schema_version", 1}};
  summary["training"] = {
      {"steps", num_steps},
      {"tokens", metrics.tokens},
      {"first_loss", metrics.loss.front()},
      {"last_loss", quantile(from_step(metrics.loss, std::max<std::size_t>(1, num_steps - num_steps / 20)), 0.5)}};
  // The prediction is of the worst draw that the law allows; the largest of the steps comes close to it in a long run.
  const std::vector<double> peaks = from_step(metrics.peak_bytes, 2);
  summary["peak_allocated_bytes"] = beside(quantile(peaks, 1), before.number("/memory/peak_allocated_bytes"),
                                           after.number("/memory/peak_allocated_bytes"));
  summary["median_step_peak_allocated_bytes"] =
      beside(quantile(peaks, 0.5), before.number("/elastic/peak_allocated_bytes/p50"),
             after.number("/elastic/peak_allocated_bytes/p50"));
  const std::vector<double> seconds = from_step(metrics.seconds, first_timed_step);
  summary["step_seconds"] = beside(quantile(seconds, 0.5), before.number("/throughput/step_seconds"),
                                   after.number("/throughput/step_seconds"));
  summary["step_seconds"]["first_timed_step"] = first_timed_step;
  summary["step_seconds"]["measured_p10"] = quantile(seconds, 0.1);
  summary["step_seconds"]["measured_p90"] = quantile(seconds, 0.9);
  summary["step_seconds"]["measured_by_part"] = medians_of_parts(seconds);

  summary["evaluation"] = picked(evaluation.content, {"split", "tokens", "loss_by_k", "bits_per_byte_by_k"});
  summary["evaluation"]["loss_by_k"] = evaluation.at("/loss_by_k");
  // Nats per token to bits per byte of the training text.
  const double bits_per_byte_of_nat =
      tokens.number("/splits/train/tokens") / tokens.number("/splits/train/bytes") / std::log(2.0);
  summary["text"] = {{"unigram_entropy_bits_per_byte", tokens.at("/unigram_entropy_bits_per_byte")},
                     {"bits_per_byte_of_nat", bits_per_byte_of_nat}};
  allocation.at("/k_per_layer");
  summary["allocation"] = allocation.content;
  if (job.elastic.sampling != Sampling::kTopP) summary["sum_k"] = sum_laws(job);
  if (job.elastic.budget) summary["budget"] = own_budget(job, run);
  return summary;
}

void print_summary(const json& summary, std::ostream& out) {
  const auto row = [&](const std::string& name, const std::string& before, const std::string& after,
                       const std::string& measured) {
    out << std::left << std::setw(24) << name << std::right << std::setw(22) << before << std::setw(22) << after
        << std::setw(14) << measured << '\n';
  };
  const auto quantity = [&](const std::string& name, const std::string& key, auto&& text) {
    const json& entry = summary.at(key);
    const auto predicted = [&](const std::string& when) {
      return text(entry.at("predicted_" + when).template get<double>()) + " (" +
             percent(entry.at("error_fraction_" + when).template get<double>()) + ")";
    };
    row(name, predicted("before"), predicted("after"), text(entry.at("measured").template get<double>()));
  };
  const auto bytes = [](double value) { return to_string(Bytes{value}); };
  const auto seconds = [](double value) { return to_string(Seconds{value}); };
  out << '\n';
  row("", "predicted", "after calibration", "measured");
  quantity("peak memory, largest", "peak_allocated_bytes", bytes);
  quantity("peak memory, median", "median_step_peak_allocated_bytes", bytes);
  quantity("time of a step", "step_seconds", seconds);
  const auto parts = summary.at("step_seconds").value("measured_by_part", std::vector<double>{});
  if (const auto [least, most] = std::minmax_element(parts.begin(), parts.end());
      !parts.empty() && *most > kSteadyMachine * *least) {
    out << "The machine changed its speed: a part of the run took " << seconds(*least) << " a step, another "
        << seconds(*most) << "; it was calibrated as it was after the last step.\n";
  }
  print_losses(summary, out);
  out << '\n' << training_sentence(summary) << '\n' << allocation_sentence(summary.at("allocation")) << '\n';
  if (summary.contains("budget")) out << budget_sentence(summary["budget"]) << '\n';
}

}  // namespace mmoe
