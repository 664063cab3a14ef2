#include "sim/calibration/links.h"

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <unsupported/Eigen/NonLinearOptimization>
#include <unsupported/Eigen/NumericalDiff>
#include <utility>

#include "sim/calibration/parameters.h"
#include "sim/calibration/robust.h"
#include "sim/calibration/samples.h"
#include "sim/config/enum_names.h"
#include "sim/framework/framework.h"
#include "sim/network/collectives.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

const double kKnown = std::log(2);  // the largest standard error of a logarithm that counts as known
constexpr double kSingular = 1e-9;  // a determinant below this share of the diagonal is 0 but for rounding

// One measured collective and what predicts it.
struct LinkSample {
  const HardwareConfig* hardware = nullptr;
  NetworkParameters parameters;  // of the job's framework
  GroupPlacement placement;
  Collective collective = Collective::kAllReduce;
  Bytes bytes;
  double seconds = 0, noise = 0;
  int level = 0;  // the outermost that it crosses
  bool held_out = false;

  const FabricLevel& link() const { return hardware->fabric[static_cast<std::size_t>(level)]; }
  NetworkParameters network_parameters(const Calibration& calibration) const {
    NetworkParameters measured = parameters;
    measured.measured = measured_links(calibration);
    return measured;
  }
  double predict(const Calibration& calibration) const {
    const Network network = make_network(*hardware, network_parameters(calibration));
    return collective_seconds(network, placement, collective, bytes).value;
  }
};

LinkSample sample_of(const ProfiledJobs& profile, std::size_t index, const NetworkParameters& parameters) {
  const CollectiveRecord& record = profile.profile.collectives[index];
  const Job& job = profile.jobs[static_cast<std::size_t>(record.job)];
  const auto fail = [&](const std::string& what) {
    throw ConfigError(profile.where + ": collectives[" + std::to_string(index) + "]." + what);
  };
  const std::optional<RankGroup> group =
      group_named(rank_groups(job.parallelism, job.hardware.num_devices), record.group);
  if (!group) fail("group = \"" + record.group + "\" is no group of ranks; measure again with mmoe train");
  if (group->size != record.group_size) {
    fail("group_size = " + std::to_string(record.group_size) + " but the " + record.group + " groups of its job have " +
         std::to_string(group->size) + " ranks; measure again with mmoe train");
  }
  LinkSample sample;
  sample.hardware = &job.hardware;
  sample.parameters = parameters;
  sample.placement = place(*group, make_network(job.hardware, parameters).domains);
  sample.collective = *value_named<Collective>(record.collective);
  sample.bytes = record.bytes_per_call;
  sample.seconds = record.seconds.median.value;
  sample.noise = log_noise(record.seconds);
  sample.level = farthest_level(sample.placement);
  if (record.within_node != (sample.level == 0)) {
    fail(std::string("within_node = ") + (record.within_node ? "true" : "false") + " but by its job the " +
         record.group + " groups " + (sample.level == 0 ? "stay within a node" : "cross nodes") +
         "; give hardware.devices_per_node as the ranks were started" +
         (sample.level == 0 ? ", and a cluster with a level beyond the node" : "") + ", and measure again");
  }
  return sample;
}

std::vector<LinkSample> collect(const std::vector<ProfiledJobs>& profiles) {
  std::vector<LinkSample> samples;
  for (const ProfiledJobs& profile : profiles) {
    if (profile.profile.collectives.empty()) continue;
    std::vector<NetworkParameters> parameters;
    for (const Job& job : profile.jobs) {
      parameters.push_back(
          load_framework(job.training.framework, job.hardware.spec, job.where + ": training.framework").network);
    }
    for (std::size_t i = 0; i < profile.profile.collectives.size(); ++i) {
      const auto job = static_cast<std::size_t>(profile.profile.collectives[i].job);
      samples.push_back(sample_of(profile, i, parameters[job]));
    }
  }
  return samples;
}

// "link_latency.node", or of one kind of collective "link_latency.node.all_to_all".
std::string full_name(const LinkParameterDefinition& definition, const std::string& level,
                      std::optional<Collective> kind = {}) {
  return std::string(definition.name) + "." + level + (kind ? std::string(".") + name_of(*kind) : "");
}

// The parameter's entry; made with what is nominal.
CalibrationParameter& parameter_of(Calibration& calibration, const LinkParameterDefinition& definition,
                                   const std::string& name, double nominal) {
  CalibrationParameter* found = calibration.find(name);
  if (found == nullptr) {
    calibration.parameters.push_back({name, 0, 0, definition.low, definition.high, std::string(definition.unit), ""});
    found = &calibration.parameters.back();
  }
  found->value = std::clamp(nominal, definition.low, definition.high);
  return *found;
}

void remove_parameter(Calibration& calibration, const std::string& name) {
  std::erase_if(calibration.parameters, [&](const CalibrationParameter& p) { return p.name == name; });
}

// Some parameters of one level, on their unbounded scale, against its records.
struct LevelProblem {
  using Scalar = double;
  using InputType = Eigen::VectorXd;
  using ValueType = Eigen::VectorXd;
  using JacobianType = Eigen::MatrixXd;
  enum { InputsAtCompileTime = Eigen::Dynamic, ValuesAtCompileTime = Eigen::Dynamic };

  const std::vector<const LinkSample*>& samples;
  Calibration calibration;
  std::vector<std::string> names;

  int inputs() const { return static_cast<int>(names.size()); }
  // A solver wants no fewer rows than unknowns.
  int values() const { return std::max(inputs(), static_cast<int>(samples.size())); }

  Eigen::VectorXd start() const {
    Eigen::VectorXd u(inputs());
    for (int i = 0; i < inputs(); ++i) {
      const CalibrationParameter& p = *calibration.find(names[static_cast<std::size_t>(i)]);
      u[i] = to_unbounded(p.value, p.low, p.high);
    }
    return u;
  }

  Calibration at(const Eigen::VectorXd& u) const {
    Calibration moved = calibration;
    for (int i = 0; i < inputs(); ++i) {
      CalibrationParameter& p = *moved.find(names[static_cast<std::size_t>(i)]);
      p.value = from_unbounded(u[i], p.low, p.high);
    }
    return moved;
  }

  // Logarithms of predicted over measured, in standard deviations.
  Eigen::VectorXd errors(const Eigen::VectorXd& u) const {
    const Calibration moved = at(u);
    Eigen::VectorXd result = Eigen::VectorXd::Zero(values());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      result[static_cast<Eigen::Index>(i)] =
          std::log(samples[i]->predict(moved) / samples[i]->seconds) / samples[i]->noise;
    }
    return result;
  }

  int operator()(const Eigen::VectorXd& u, Eigen::VectorXd& residuals) const {
    residuals = errors(u).unaryExpr(&robust);
    return 0;
  }

  // Change of the errors with the logarithm of each parameter, by central difference.
  Eigen::MatrixXd log_jacobian(const Eigen::VectorXd& u) const {
    constexpr double kStep = 1e-4;
    Eigen::MatrixXd jacobian(values(), inputs());
    for (int i = 0; i < inputs(); ++i) {
      Eigen::VectorXd up = u, down = u;
      const CalibrationParameter& p = *calibration.find(names[static_cast<std::size_t>(i)]);
      const double value = from_unbounded(u[i], p.low, p.high);
      up[i] = to_unbounded(value * std::exp(kStep), p.low, p.high);
      down[i] = to_unbounded(value * std::exp(-kStep), p.low, p.high);
      jacobian.col(i) = (errors(up) - errors(down)) / (2 * kStep);
    }
    return jacobian;
  }

  Eigen::VectorXd solve() const {
    Eigen::VectorXd u = start();
    Eigen::NumericalDiff<LevelProblem, Eigen::Central> differentiable(*this, 1e-10);
    Eigen::LevenbergMarquardt<Eigen::NumericalDiff<LevelProblem, Eigen::Central>> solver(differentiable);
    solver.parameters.maxfev = 2000;
    solver.parameters.xtol = solver.parameters.ftol = 1e-12;
    solver.minimize(u);
    return u;
  }
};

// Covariance of the logarithms; empty where the records leave some direction open. Where records disagree by more than
// their noise, by as much more.
Eigen::MatrixXd log_covariance(const LevelProblem& problem, const Eigen::VectorXd& u) {
  const Eigen::MatrixXd jacobian = problem.log_jacobian(u), normal = jacobian.transpose() * jacobian;
  if (!(normal.determinant() > kSingular * normal.diagonal().prod())) return {};
  const auto freedom = static_cast<double>(problem.samples.size()) - problem.inputs();
  Eigen::VectorXd residuals(problem.values());
  problem(u, residuals);
  const double scale = freedom > 0 ? std::max(1.0, residuals.squaredNorm() / freedom) : 1;
  return scale * normal.inverse();
}

bool is_known(const Eigen::MatrixXd& covariance) {
  return covariance.size() > 0 && covariance.diagonal().maxCoeff() <= kKnown * kKnown;
}

// The solution goes into the calibration, its covariance on the unbounded scale too.
void take_over(const LevelProblem& problem, const Eigen::VectorXd& u, const Eigen::MatrixXd& covariance,
               const std::string& note, Calibration& calibration) {
  const std::size_t before = calibration.covariance_names.size(), more = problem.names.size(), all = before + more;
  const Calibration solution = problem.at(u);
  std::vector<double> per_log;  // change on the unbounded scale with the logarithm
  for (std::size_t i = 0; i < more; ++i) {
    CalibrationParameter p = *solution.find(problem.names[i]);
    const auto at = static_cast<Eigen::Index>(i);
    p.standard_error = p.value;
    per_log.push_back(unbounded_error(p));
    p.standard_error = p.value * std::sqrt(covariance(at, at));
    p.note = note;
    *calibration.find(p.name) = p;
    calibration.covariance_names.push_back(p.name);
  }
  std::vector<double> values(all * all);
  for (std::size_t i = 0; i < before; ++i) {
    for (std::size_t j = 0; j < before; ++j) values[i * all + j] = calibration.covariance[i * before + j];
  }
  for (std::size_t i = 0; i < more; ++i) {
    for (std::size_t j = 0; j < more; ++j) {
      values[(before + i) * all + before + j] =
          per_log[i] * per_log[j] * covariance(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
    }
  }
  calibration.covariance = std::move(values);
}

// "3 records of 2 sizes from 4.000 KiB to 1.000 MiB".
std::string in_words(const std::vector<const LinkSample*>& samples) {
  std::set<double> sizes;
  for (const LinkSample* sample : samples) sizes.insert(sample->bytes.value);
  return std::to_string(samples.size()) + (samples.size() == 1 ? " record" : " records") + " of " +
         std::to_string(sizes.size()) + (sizes.size() == 1 ? " size, " : " sizes from ") +
         to_string(Bytes{*sizes.begin()}) +
         (sizes.size() == 1 ? std::string() : " to " + to_string(Bytes{*sizes.rbegin()}));
}

// Fits one level; says what could not be told apart, or nothing.
std::string fit_level(const std::vector<const LinkSample*>& samples, Calibration& calibration) {
  const LinkSample& any = *samples.front();
  const std::string& level = any.link().name;
  const auto at = static_cast<std::size_t>(any.level);
  const Link nominal = make_network(*any.hardware, any.parameters).links[at];
  const std::string latency = full_name(kLinkLatency, level), bandwidth = full_name(kLinkBandwidth, level);
  Calibration both = calibration;
  parameter_of(both, kLinkLatency, latency, nominal.latency.value);
  parameter_of(both, kLinkBandwidth, bandwidth, nominal.bandwidth.value);
  const std::string note = "fitted to " + in_words(samples) + " of collectives, ";
  const LevelProblem together{samples, both, {latency, bandwidth}};
  if (samples.size() >= 2) {
    const Eigen::VectorXd u = together.solve();
    if (const Eigen::MatrixXd covariance = log_covariance(together, u); is_known(covariance)) {
      calibration = both;
      take_over(together, u, covariance, note + "with the other of " + level, calibration);
      return "";
    }
  }
  // Which of the two the times follow more, at the nominal values.
  const Eigen::MatrixXd jacobian = together.log_jacobian(together.start());
  const bool by_latency = jacobian.col(0).squaredNorm() >= jacobian.col(1).squaredNorm();
  const std::string line = "link level " + level + ": " + in_words(samples) + " cannot tell latency from bandwidth; ";
  const char* const advice = "; measure a job with transfers of other sizes too";
  remove_parameter(both, by_latency ? bandwidth : latency);
  const LevelProblem one{samples, both, {by_latency ? latency : bandwidth}};
  const Eigen::VectorXd u = one.solve();
  const Eigen::MatrixXd covariance = log_covariance(one, u);
  if (!is_known(covariance)) return line + "neither was fitted" + advice;
  calibration = both;
  const std::string other = by_latency ? "bandwidth" : "latency";
  take_over(one, u, covariance, note + other + " nominal", calibration);
  return line + "only the " + (by_latency ? "latency" : "bandwidth") + " was fitted" + advice;
}

// What a kind of collective has of its own at a level: its software's time for each hop, and the bandwidth that its
// copies and sums leave. Fitted where the kind's own records tell both, else it shares the level's.
void fit_kind(const std::vector<const LinkSample*>& samples, Calibration& calibration) {
  constexpr std::size_t kFewest = 4;  // two more than the unknowns
  if (samples.size() < kFewest) return;
  const LinkSample& any = *samples.front();
  const std::string& level = any.link().name;
  const Link start = make_network(*any.hardware, any.network_parameters(calibration)).links[any.level];
  const std::string latency = full_name(kLinkLatency, level, any.collective);
  const std::string bandwidth = full_name(kLinkBandwidth, level, any.collective);
  Calibration own = calibration;
  parameter_of(own, kLinkLatency, latency, start.latency.value);
  parameter_of(own, kLinkBandwidth, bandwidth, start.bandwidth.value);
  const LevelProblem problem{samples, own, {latency, bandwidth}};
  const Eigen::VectorXd u = problem.solve();
  const Eigen::MatrixXd covariance = log_covariance(problem, u);
  if (!is_known(covariance)) return;
  calibration = std::move(own);
  take_over(problem, u, covariance,
            "fitted to " + in_words(samples) + " of " + name_of(any.collective) + ", with the other of them",
            calibration);
}

void hold_out_by_size(std::vector<LinkSample*> samples) {
  constexpr std::size_t kFewest = 4;
  if (samples.size() <= kFewest) return;
  std::stable_sort(samples.begin(), samples.end(),
                   [](const LinkSample* a, const LinkSample* b) { return a->bytes < b->bytes; });
  for (std::size_t i = 2; i + 1 < samples.size(); i += 3) samples[i]->held_out = true;
}

std::vector<MeasuredPrediction> predictions(const std::vector<LinkSample>& samples, const Calibration& calibration,
                                            bool held_out) {
  std::vector<MeasuredPrediction> list;
  for (const LinkSample& sample : samples) {
    if (sample.held_out != held_out) continue;
    const auto predict = [&](const Calibration& moved) { return sample.predict(moved); };
    list.push_back({sample.seconds, predict(calibration),
                    prediction_interval(calibration, predict, calibration.collective_spread)});
  }
  return list;
}

double root_mean_square_log_error(const std::vector<MeasuredPrediction>& list) {
  std::vector<double> errors;
  for (const MeasuredPrediction& one : list) errors.push_back(std::log(one.measured / one.predicted));
  return root_mean_square(errors);
}

}  // namespace

std::vector<MeasuredLink> measured_links(const Calibration& calibration) {
  std::vector<MeasuredLink> links;
  const auto link_of = [&](const CalibrationParameter& parameter, const LinkParameterDefinition& definition) {
    const std::string prefix = full_name(definition, "");
    if (!parameter.name.starts_with(prefix)) return static_cast<MeasuredLink*>(nullptr);
    MeasuredLink named{.level = parameter.name.substr(prefix.size()), .bandwidth = {}, .latency = {}};
    const std::size_t dot = named.level.rfind('.');
    if (dot != std::string::npos) named.kind = value_named<Collective>(named.level.substr(dot + 1));
    if (named.kind) named.level.resize(dot);
    const auto found = std::find_if(links.begin(), links.end(), [&](const MeasuredLink& link) {
      return link.level == named.level && link.kind == named.kind;
    });
    return found != links.end() ? &*found : &links.emplace_back(std::move(named));
  };
  for (const CalibrationParameter& parameter : calibration.parameters) {
    if (MeasuredLink* link = link_of(parameter, kLinkLatency)) link->latency = Seconds{parameter.value};
    if (MeasuredLink* link = link_of(parameter, kLinkBandwidth)) link->bandwidth = BytesPerSecond{parameter.value};
  }
  return links;
}

LinkFit fit_links(const std::vector<ProfiledJobs>& profiles, bool hold_out, Calibration& calibration) {
  LinkFit result;
  std::vector<LinkSample> samples = collect(profiles);
  if (samples.empty()) return result;
  std::array<std::vector<LinkSample*>, kMaxFabricLevels> by_level;
  for (LinkSample& sample : samples) by_level[static_cast<std::size_t>(sample.level)].push_back(&sample);
  if (hold_out) {
    for (const std::vector<LinkSample*>& level : by_level) hold_out_by_size(level);
  }
  result.before = predictions(samples, calibration, true);
  for (const std::vector<LinkSample*>& level : by_level) {
    std::vector<const LinkSample*> fitted;
    std::copy_if(level.begin(), level.end(), std::back_inserter(fitted),
                 [](const LinkSample* sample) { return !sample->held_out; });
    result.fitted_records += static_cast<int64_t>(fitted.size());
    result.held_out_records += static_cast<int64_t>(level.size() - fitted.size());
    if (fitted.empty()) continue;
    if (std::string line = fit_level(fitted, calibration); !line.empty()) {
      result.not_fitted.push_back(std::move(line));
      continue;
    }
    std::map<Collective, std::vector<const LinkSample*>> by_kind;
    for (const LinkSample* sample : fitted) by_kind[sample->collective].push_back(sample);
    for (const auto& [kind, samples_of_kind] : by_kind) fit_kind(samples_of_kind, calibration);
  }
  if (result.held_out_records > 0) result.held_out.emplace_back("every third collective by size");
  const auto parameters = static_cast<double>(measured_links(calibration).size()) * 2;
  const auto rows = static_cast<double>(result.fitted_records);
  const double small_sample = std::sqrt(rows / std::max(1.0, rows - parameters));
  calibration.collective_spread =
      std::max(kLeastSpread, small_sample * root_mean_square_log_error(predictions(samples, calibration, false)));
  result.fitted = predictions(samples, calibration, false);
  result.after = predictions(samples, calibration, true);
  // What was kept back widens the intervals of later predictions, after the coverage has been stated.
  calibration.collective_spread = std::max(calibration.collective_spread, root_mean_square_log_error(result.after));
  return result;
}

}  // namespace mmoe
