// Many fits at once, in Python.
#include <pybind11/stl.h>

#include "core/elbo.hpp"
#include "core/limits.hpp"
#include "core/lockstep.hpp"
#include "core/problem_seeds.hpp"
#include "python/bindings.hpp"
#include "python/feed.hpp"
#include "python/gil.hpp"
#include "python/numpy.hpp"
#include "python/python_batch.hpp"
#include "python/rules.hpp"
#include "python/specs.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Index;
using Seeds = py::array_t<std::uint64_t, py::array::c_style>;

namespace {

// What Python says that all problems share, with what the core's plan refers to.
struct Plan {
  Plan(const Seeds& given, Array rates, const std::vector<klqp::RuleSpec>& specs, const klqp::RunConfig& each,
       bool wants_traces)
      : rules(klqp::make_rules(specs)),
        seeds(given.data(), given.data() + given.size()),
        learning_rates(std::move(rates)),
        config(each),
        traces(wants_traces) {}

  Index n_problems() const { return static_cast<Index>(seeds.size()); }
  Index n_steps() const { return static_cast<Index>(learning_rates.size()); }
  klqp::ManyPlan core() const {
    return {klqp::ConstSpan{learning_rates.data(), static_cast<std::size_t>(learning_rates.size())},
            rules,
            seeds,
            klqp::make_observer(observer),
            config.n_threads,
            config.n_cpus};
  }

  klqp::StopRules rules;
  std::vector<std::uint64_t> seeds;
  Array learning_rates;
  klqp::RunConfig config;
  bool traces;
  py::object observer = py::none();  // signals alone are looked at
};

// The results and whether a KeyboardInterrupt ended the call; other exceptions go on.
template <class Run>
bool is_interrupted(const Run& run) {
  try {
    run();
    return false;
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_KeyboardInterrupt)) throw;
    return true;
  }
}

Array nans(Index rows, Index cols) {
  Array out = klqp::new_matrix(rows, cols);
  std::fill_n(out.mutable_data(), out.size(), klqp::kNaN);
  return out;
}

py::dict as_dict(const klqp::ManyResults& results, const py::object& params, const py::object& traces,
                 bool interrupted) {
  const auto n = static_cast<Index>(results.outcomes.size());
  Array losses = klqp::new_vector(n);
  py::array_t<std::int64_t> n_steps(n);
  py::list status, messages;
  for (Index b = 0; b < n; ++b) {
    const klqp::Outcome& outcome = results.outcomes[static_cast<std::size_t>(b)];
    losses.mutable_at(b) = outcome.loss;
    n_steps.mutable_at(b) = outcome.n_steps;
    status.append(outcome.status);
    messages.append(outcome.message);
  }
  py::dict out;
  out["params"] = params;
  out["losses"] = losses;
  out["traces"] = traces;
  out["n_steps"] = n_steps;
  out["status"] = status;
  out["messages"] = messages;
  out["interrupted"] = interrupted;
  return out;
}

struct Traces {
  explicit Traces(const Plan& plan) {
    if (plan.traces) array = nans(plan.n_problems(), plan.n_steps());
  }
  py::object object() const { return array.size() > 0 ? py::object(array) : py::object(py::none()); }
  klqp::Matrix matrix() { return array.size() > 0 ? klqp::matrix_of(array) : klqp::Matrix{}; }
  Array array{0};
};

using Worker = std::pair<klqp::Run*, std::vector<klqp::Feed>>;
// Numbers of the problems, their workspaces, and their starts (n, P) or (1, P).
using FormSpec = std::tuple<std::vector<Index>, std::vector<Worker>, Array>;

klqp::Form make_form(const FormSpec& spec, klqp::Matrix params) {
  const auto& [problems, workers, starts] = spec;
  klqp::Form form{{}, problems, {starts.data(), starts.shape(0), starts.shape(1)}, params};
  for (const Worker& worker : workers) {
    const std::vector<klqp::Feed>& feeds = worker.second;
    form.workspaces.push_back({worker.first, [&feeds](Index i) {
                                 for (const klqp::Feed& feed : feeds) feed.give(i);
                               }});
  }
  return form;
}

py::dict run_many(const std::vector<FormSpec>& specs, const Plan& plan) {
  const klqp::ManyPlan core = plan.core();
  klqp::ManyResults results(plan.seeds.size());
  Traces traces(plan);
  results.losses = traces.matrix();
  py::list all_params;
  std::vector<klqp::Form> forms;
  for (const FormSpec& spec : specs) {
    Array params = nans(static_cast<Index>(std::get<0>(spec).size()), std::get<2>(spec).shape(1));
    forms.push_back(make_form(spec, klqp::matrix_of(params)));
    all_params.append(params);
  }
  const bool interrupted = is_interrupted([&] {
    const klqp::GilRelease release;
    klqp::run_many(forms, core, results);
  });
  return as_dict(results, all_params, traces.object(), interrupted);
}

py::dict run_lockstep(const py::object& fn, const py::object& coerce, const klqp::FamilySpec& family,
                      const klqp::EstimatorSpec& estimator, const klqp::Noise& noise,
                      const klqp::OptimizerSpec& optimizer, const Array& starts, const Plan& plan) {
  const klqp::ManyPlan core = plan.core();
  const Index n = plan.n_problems(), n_draws = noise.n_draws();
  klqp::ManyResults results(plan.seeds.size());
  Traces traces(plan);
  results.losses = traces.matrix();
  std::vector<klqp::Member> members;
  const auto start_of = [&](Index b) {
    const Index row = starts.shape(0) == 1 ? 0 : b;
    return klqp::ConstSpan{starts.data() + row * starts.shape(1), static_cast<std::size_t>(starts.shape(1))};
  };
  for (Index b = 0; b < n; ++b) {
    auto member = family.make();
    auto chosen = estimator.make(*member, noise);
    auto target = std::make_shared<klqp::SharedTarget>(member->dim());
    const bool proximal = estimator.config.entropy == klqp::Entropy::proximal;
    klqp::RunParts parts{std::make_unique<klqp::Elbo>(std::move(member), target, std::move(chosen), n_draws, proximal),
                         std::make_unique<klqp::Noise>(noise), optimizer.make()};
    parts.noise->set_seed(plan.seeds[static_cast<std::size_t>(b)]);
    members.push_back({std::make_unique<klqp::Run>(std::move(parts), plan.config, start_of(b)), target});
  }
  Array params = nans(n, starts.shape(1));
  klqp::PythonBatch batch(fn, coerce, n_draws, family.config.dim);
  const bool interrupted = is_interrupted([&] {
    const klqp::GilRelease release;
    klqp::run_lockstep(members, batch, n_draws, core, klqp::matrix_of(params), results);
  });
  return as_dict(results, params, traces.object(), interrupted);
}

Seeds problem_seeds(std::uint64_t seed, std::size_t n) {
  const std::vector<std::uint64_t> seeds = klqp::problem_seeds(seed, n);
  return Seeds(static_cast<py::ssize_t>(n), seeds.data());
}

// Means and standard deviations (n, D) of the members with parameters (n, P).
py::tuple family_moments(const klqp::FamilySpec& spec, const Array& params) {
  const auto family = spec.make();
  const klqp::ConstMatrix each = klqp::view_matrix(params, family->n_params(), "params");
  Array mean = klqp::new_matrix(each.rows, family->dim()), stddev = klqp::new_matrix(each.rows, family->dim());
  const auto dim = static_cast<std::size_t>(family->dim());
  klqp::Team serial(1);
  for (Index b = 0; b < each.rows; ++b) {
    family->prepare({each.row(b), static_cast<std::size_t>(each.cols)}, serial);
    family->mean({klqp::matrix_of(mean).row(b), dim});
    family->stddev({klqp::matrix_of(stddev).row(b), dim});
  }
  return py::make_tuple(mean, stddev);
}

}  // namespace

void bind_many(py::module_& module) {
  py::class_<klqp::Feed>(module, "Feed");
  py::class_<Plan>(module, "ManyPlan")
      .def(py::init<const Seeds&, Array, const std::vector<klqp::RuleSpec>&, const klqp::RunConfig&, bool>(),
           py::arg("seeds"), py::arg("learning_rates"), py::arg("rules"), py::arg("config"), py::arg("traces"));
  module.def("run_many", run_many, py::arg("forms"), py::arg("plan"));
  module.def("run_lockstep", run_lockstep, py::arg("fn"), py::arg("coerce"), py::arg("family"), py::arg("estimator"),
             py::arg("noise"), py::arg("optimizer"), py::arg("starts"), py::arg("plan"));
  module.def("problem_seeds", problem_seeds, py::arg("seed"), py::arg("n"));
  module.def("family_moments", family_moments, py::arg("spec"), py::arg("params"));
}
