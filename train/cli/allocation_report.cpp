#include "train/cli/allocation_report.h"

#include <cmath>
#include <cstdio>
#include <ostream>

#include "sim/cli/table.h"

namespace mmoe {
namespace {

using json = nlohmann::ordered_json;

std::string fixed(double value, const char* format = "%.4f") {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

const char* verdict_name(AllocationVerdict verdict) {
  switch (verdict) {
    case AllocationVerdict::kBetter:
      return "better";
    case AllocationVerdict::kWorse:
      return "worse";
    default:
      return "as_good";
  }
}

std::string verdict_sentence(const Allocation& allocation) {
  const std::string gap = fixed(std::abs(allocation.difference.mean)) + " nats per token";
  switch (allocation.verdict) {
    case AllocationVerdict::kBetter:
      return "The allocation is better than uniform k of the same cost, by " + gap + ".";
    case AllocationVerdict::kWorse:
      return "The allocation is worse than uniform k of the same cost, by " + gap + ": use uniform k.";
    default:
      break;
  }
  if (allocation.k_per_layer == allocation.uniform_k_per_layer) {
    return "The search found nothing better than uniform k: uniform is as good.";
  }
  return "Uniform k of the same cost is as good as the allocation, as far as this text can tell.";
}

json interval_of(const PairedDifference& difference) { return {difference.low, difference.high}; }

json cost_json(const Allocation& allocation, const AllocationCost& costs) {
  const double most = costs.uniform(costs.k_max()), cost = costs.total(allocation.k_per_layer);
  return {{"kind", costs.kind},
          {"unit", costs.unit},
          {"allocation", cost},
          {"uniform", costs.total(allocation.uniform_k_per_layer)},
          {"budget", allocation.budget},
          {"k_max", most},
          {"fraction_of_k_max", cost / most}};
}

json front_json(const Allocation& allocation, const AllocationCost& costs) {
  json points = json::array();
  for (const KnapsackSolution& point : allocation.front.points) {
    points.push_back({{"k_per_layer", point.k_per_layer},
                      {"mean_k", mean_k(point.k_per_layer)},
                      {"predicted_loss", allocation.sensitivities.base_loss + point.loss},
                      {"cost", costs.total(point.k_per_layer)}});
  }
  return points;
}

std::string ks(const json& k_per_layer) {
  std::string text;
  for (const json& k : k_per_layer) {
    if (!text.empty()) text += ' ';
    text += k.dump();
  }
  return text;
}

}  // namespace

json allocation_json(const Allocation& allocation, const AllocationCost& costs, const AllocationOptions& options,
                     const StepTimeModel* seconds) {
  json report;
  report["k_per_layer"] = allocation.k_per_layer;
  report["mean_k"] = mean_k(allocation.k_per_layer);
  report["uniform_k_per_layer"] = allocation.uniform_k_per_layer;
  report["native_k"] = options.native_k;
  report["predicted_loss"] = allocation.predicted_loss;
  report["predicted_difference"] = allocation.predicted_loss - allocation.uniform_predicted_loss;
  report["search_loss"] = allocation.search_loss;
  if (allocation.loss_limit) report["search_loss_limit"] = *allocation.loss_limit;
  report["verified_loss"] = allocation.verified.loss;
  report["uniform_loss"] = allocation.uniform.loss;
  report["native_loss"] = allocation.native.loss;
  report["difference"] = allocation.difference.mean;
  report["interval"] = interval_of(allocation.difference);
  report["confidence"] = 0.95;
  report["smallest_resolvable_difference"] =
      allocation.smallest_resolvable ? json(*allocation.smallest_resolvable) : json();
  if (!allocation.runner_up_k_per_layer.empty()) {
    report["runner_up_k_per_layer"] = allocation.runner_up_k_per_layer;
  }
  report["difference_to_native"] = {{"difference", allocation.difference_to_native.mean},
                                    {"interval", interval_of(allocation.difference_to_native)}};
  report["verdict"] = verdict_name(allocation.verdict);
  report["verdict_text"] = verdict_sentence(allocation);
  report["cost"] = cost_json(allocation, costs);
  if (seconds != nullptr) {
    const auto predicted = [&](const std::vector<int>& k) { return seconds->forward_seconds(k).value; };
    report["predicted_forward_seconds"] = {
        {"allocation", predicted(allocation.k_per_layer)},
        {"uniform", predicted(allocation.uniform_k_per_layer)},
        {"native", predicted(std::vector<int>(allocation.k_per_layer.size(), options.native_k))}};
  }
  report["k_min"] = costs.k_min;
  report["k_max"] = costs.k_max();
  report["base_k"] = allocation.sensitivities.base_k;
  report["base_loss"] = allocation.sensitivities.base_loss;
  report["sensitivities"] = allocation.sensitivities.increase;
  report["search_evaluations"] = allocation.search_evaluations;
  report["splits"] = {{"sensitivities", "search"}, {"verdict", "test"}};
  report["windows"] = {{"search", allocation.search_windows},
                       {"test", allocation.verified.window_losses.size()},
                       {"per_block", allocation.difference.windows_per_block},
                       {"blocks", allocation.difference.num_blocks},
                       {"seq_len", allocation.seq_len}};
  if (options.front) {
    report["front"] = front_json(allocation, costs);
    report["front_is_complete"] = allocation.front.complete;
  }
  return report;
}

void print_allocation(const json& report, std::ostream& out) {
  const json& cost = report.at("cost");
  Table table{
      {"", "k per layer", "mean k", "loss (nats/token, test)", "cost (" + cost.at("kind").get<std::string>() + ")"},
      {}};
  const auto row = [&](const std::string& name, const char* k, const char* loss, const char* cost_key) {
    double sum = 0;
    for (const json& value : report.at(k)) sum += value.get<double>();
    table.add({name, ks(report.at(k)), fixed(sum / static_cast<double>(report.at(k).size()), "%.2f"),
               fixed(report.at(loss).get<double>()), fixed(cost.at(cost_key).get<double>(), "%.4g")});
  };
  row("allocation", "k_per_layer", "verified_loss", "allocation");
  row("uniform", "uniform_k_per_layer", "uniform_loss", "uniform");
  print_table(table, out);
  out << "\nnative k = " << report.at("native_k") << ": loss " << fixed(report.at("native_loss").get<double>())
      << "; the allocation costs " << percent(cost.at("fraction_of_k_max").get<double>())
      << " of uniform k = " << report.at("k_max") << " (" << cost.at("unit").get<std::string>() << ")\n"
      << "predicted on the search split: loss " << fixed(report.at("predicted_loss").get<double>()) << ", "
      << fixed(report.at("predicted_difference").get<double>(), "%+.4f")
      << " against uniform (measured there: " << fixed(report.at("search_loss").get<double>()) << ")\n"
      << "measured on the test split: " << fixed(report.at("difference").get<double>(), "%+.4f")
      << " against uniform, 95 % interval " << fixed(report.at("interval")[0].get<double>(), "%+.4f") << " to "
      << fixed(report.at("interval")[1].get<double>(), "%+.4f");
  if (report.at("smallest_resolvable_difference").is_number()) {
    out << "; this text can resolve " << fixed(report.at("smallest_resolvable_difference").get<double>());
  }
  out << "\n\n" << report.at("verdict_text").get<std::string>() << '\n';
  if (!report.contains("front")) return;
  Table front{{"mean k", "predicted loss", "cost", "k per layer"}, {}};
  for (const json& point : report.at("front")) {
    front.add({fixed(point.at("mean_k").get<double>(), "%.2f"), fixed(point.at("predicted_loss").get<double>()),
               fixed(point.at("cost").get<double>(), "%.4g"), ks(point.at("k_per_layer"))});
  }
  out << "\nBest predicted allocations by cost (search split):\n";
  print_table(front, out);
}

}  // namespace mmoe
