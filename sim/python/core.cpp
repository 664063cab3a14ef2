// The Python module's functions: JSON text in and out; mmoe/__init__.py turns it into dictionaries.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

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
Job job_of(const std::string& text) {
  return parse_job(parse_json(text, "job"), "job", std::filesystem::current_path().string());
}

std::string simulate_text(const std::string& job, const std::string& calibration) {
  return plan_json(job_of(job), calibration).dump();
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
  py::class_<Sampler>(module, "Sampler")
      .def(py::init<const std::string&>())
      .def("draw", &Sampler::draw, py::arg("step"), py::arg("first_micro_batch") = 0)
      .def("marginals", &Sampler::marginals)
      .def_property_readonly("num_layers", &Sampler::num_layers)
      .def_property_readonly("num_micro_batches", &Sampler::num_micro_batches);
}

}  // namespace
}  // namespace mmoe
