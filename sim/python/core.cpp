// The Python module's functions: JSON text in and out; mmoe/__init__.py turns it into dictionaries.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/allocation/knapsack.h"
#include "sim/cli/plan_json.h"
#include "sim/config/job.h"
#include "sim/config/json_text.h"
#include "sim/elastic/elastic_law.h"
#include "sim/plan/step_draws.h"
#include "sim/units/errors.h"

namespace py = pybind11;

namespace mmoe {
namespace {

// `text`: the job as JSON. Relative paths in it start at the working folder.
Job job_of(const std::string& text, Layout layout = Layout::kFixed, const Overrides& settings = {}) {
  return parse_job(parse_json(text, "job"), "job", std::filesystem::current_path().string(), settings, layout);
}

std::string simulate_text(const std::string& job, const std::string& calibration) {
  return plan_json(job_of(job), calibration).dump();
}

std::string budget_text(const std::string& job, const std::string& calibration, std::optional<double> memory_limit,
                        std::optional<double> saving, double confidence, std::optional<int64_t> steps) {
  BudgetRequest request;
  if (memory_limit) request.memory_limit = Bytes{*memory_limit};
  request.saving = saving;
  request.confidence = confidence;
  if (steps && *steps < 1) throw ConfigError("budget: steps = " + std::to_string(*steps) + " must be at least 1");
  request.steps = steps.value_or(0);
  return budget_answer(job_of(job), calibration, request).dump();
}

std::string plan_text(const std::string& job, const std::string& calibration, int top, const std::string& objective,
                      double confidence, bool search_budget, double min_sum_fraction, double max_kl) {
  PlanRequest request;
  request.top = top;
  request.objective = objective;
  request.confidence = confidence;
  request.search_budget = search_budget;
  request.budget_limits = {min_sum_fraction, max_kl};
  const auto load = [&](const Overrides& settings) { return job_of(job, Layout::kOpen, settings); };
  return plan_answer(load, calibration, request).dump();
}

using Table = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::vector<std::vector<double>> rows_of(const Table& table, const char* name) {
  if (table.ndim() != 2 || table.size() == 0) {
    throw ConfigError(std::string("allocate: ") + name + " must be a matrix [layer, k], not empty");
  }
  std::vector<std::vector<double>> rows;
  for (py::ssize_t l = 0; l < table.shape(0); ++l) {
    rows.emplace_back(table.data(l, 0), table.data(l, 0) + table.shape(1));
    for (const double value : rows.back()) {
      if (!std::isfinite(value))
        throw ConfigError(std::string("allocate: ") + name + " holds a number that is not finite");
    }
  }
  return rows;
}

// The best allocation as {k_per_layer, loss, cost, gap}, or None where even the cheapest costs more.
py::object allocate(const Table& loss, const Table& cost, double budget, int k_min) {
  const KnapsackProblem problem{k_min, rows_of(loss, "loss"), rows_of(cost, "cost")};
  if (loss.shape(0) != cost.shape(0) || loss.shape(1) != cost.shape(1)) {
    throw ConfigError("allocate: loss and cost must have the same shape [layer, k]");
  }
  if (!std::isfinite(budget)) throw ConfigError("allocate: budget is no finite number");
  const std::optional<KnapsackSolution> solution = solve_knapsack(problem, budget);
  if (!solution) return py::none();
  py::array_t<int64_t> k(static_cast<py::ssize_t>(solution->k_per_layer.size()));
  std::copy(solution->k_per_layer.begin(), solution->k_per_layer.end(), k.mutable_data());
  py::dict result;
  result["k_per_layer"] = k;
  result["loss"] = solution->loss;
  result["cost"] = solution->cost;
  result["gap"] = solution->gap;
  return result;
}

// The draws of k of a job, which it keeps.
class Sampler {
 public:
  explicit Sampler(const std::string& text) : job_(std::make_unique<Job>(job_of(text))) {
    if (job_->model.num_moe_layers() == 0 || job_->elastic.sampling == Sampling::kTopP) {
      throw ConfigError(
          "job: elastic.sampling = top_p or a model without MoE layers draws no k; use uniform, capacity_weighted or "
          "fixed");
    }
    draws_ = std::make_unique<StepDraws>(*job_);
  }

  py::array_t<int64_t> draw(int64_t step, int64_t first_micro_batch) const {
    const std::vector<std::vector<int>> k = draws_->draw(step, first_micro_batch);
    py::array_t<int64_t> result({static_cast<py::ssize_t>(k.size()), static_cast<py::ssize_t>(num_layers())});
    int64_t* out = result.mutable_data();
    for (const std::vector<int>& row : k) out = std::copy(row.begin(), row.end(), out);
    return result;
  }

  py::array_t<double> marginals() const {
    const ElasticConfig& elastic = job_->elastic;
    if (elastic.budget && elastic.budget->kind == BudgetKind::kWindow) {
      throw ConfigError(
          "job: elastic.budget.kind = window has no law of a single micro-batch; use at_most or exact, or count draws");
    }
    const ElasticLaw law(elastic, static_cast<int>(num_layers()));
    py::array_t<double> result(
        {static_cast<py::ssize_t>(num_layers()), static_cast<py::ssize_t>(elastic.k_max - elastic.k_min + 1)});
    auto out = result.mutable_unchecked<2>();
    const std::vector<DiscreteLaw> laws = law.marginals();
    for (py::ssize_t l = 0; l < out.shape(0); ++l) {
      for (py::ssize_t i = 0; i < out.shape(1); ++i) {
        out(l, i) = laws[static_cast<size_t>(l)].probability(elastic.k_min + static_cast<int>(i));
      }
    }
    return result;
  }

  int64_t num_layers() const { return job_->model.num_moe_layers(); }
  int64_t num_micro_batches() const { return job_->num_micro_batches(); }

 private:
  std::unique_ptr<Job> job_;
  std::unique_ptr<StepDraws> draws_;
};

PYBIND11_MODULE(_core, module) {
  py::register_exception<ConfigError>(module, "ConfigError", PyExc_ValueError);
  module.def("simulate", &simulate_text, py::arg("job"), py::arg("calibration"),
             py::call_guard<py::gil_scoped_release>());
  module.def("budget", &budget_text, py::arg("job"), py::arg("calibration"), py::arg("memory_limit"), py::arg("saving"),
             py::arg("confidence"), py::arg("steps"), py::call_guard<py::gil_scoped_release>());
  module.def("plan", &plan_text, py::arg("job"), py::arg("calibration"), py::arg("top"), py::arg("objective"),
             py::arg("confidence"), py::arg("search_budget"), py::arg("min_sum_fraction"), py::arg("max_kl"),
             py::call_guard<py::gil_scoped_release>());
  module.def("allocate", &allocate, py::arg("loss"), py::arg("cost"), py::arg("budget"), py::arg("k_min"));
  py::class_<Sampler>(module, "Sampler")
      .def(py::init<const std::string&>())
      .def("draw", &Sampler::draw, py::arg("step"), py::arg("first_micro_batch") = 0)
      .def("marginals", &Sampler::marginals)
      .def_property_readonly("num_layers", &Sampler::num_layers)
      .def_property_readonly("num_micro_batches", &Sampler::num_micro_batches);
}

}  // namespace
}  // namespace mmoe
