// Runs in Python.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "core/elbo.hpp"
#include "core/run.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"
#include "python/numpy.hpp"
#include "python/rules.hpp"
#include "python/specs.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Index;

namespace {

// Work in a step, in elementary operations, from which letting other Python threads in between two calls of a
// Python log density is worth taking the GIL back each time.
constexpr Index kWorkWithoutGil = 1 << 15;

klqp::Noise make_noise(const std::string& kind, Index n_draws, Index dim, std::uint64_t seed, Index n_groups,
                       const py::array_t<std::uint32_t, py::array::c_style>& directions,
                       const std::vector<std::pair<Index, Index>>& uniforms) {
  klqp::NoiseConfig config;
  config.kind = klqp::parse_draw_kind(kind);
  config.n_draws = n_draws;
  config.dim = dim;
  config.seed = seed;
  config.n_groups = n_groups;
  config.directions.assign(directions.data(), directions.data() + directions.size());
  config.sobol_dim = directions.ndim() == 2 ? directions.shape(1) : 0;
  for (const auto& range : uniforms) config.uniforms.push_back({range.first, range.second});
  return klqp::Noise(std::move(config));
}

// The objective of one family and one target; the run takes its pieces apart from the optimizer.
std::unique_ptr<klqp::Objective> make_elbo(const klqp::FamilySpec& family, std::shared_ptr<klqp::Target> target,
                                           const klqp::EstimatorSpec& estimator, const klqp::Noise& noise) {
  auto member = family.make();
  auto chosen = estimator.make(*member, noise);
  const bool proximal = estimator.name == "reparameterised" && estimator.config.entropy == klqp::Entropy::proximal;
  return std::make_unique<klqp::Elbo>(std::move(member), std::move(target), std::move(chosen), noise.n_draws(),
                                      proximal);
}

std::unique_ptr<klqp::Run> make_run(const klqp::FamilySpec& family, std::shared_ptr<klqp::Target> target,
                                    const klqp::Noise& noise, const klqp::EstimatorSpec& estimator,
                                    const klqp::OptimizerSpec& optimizer, const klqp::RunConfig& config,
                                    const Array& params) {
  klqp::RunParts parts;
  parts.objective = make_elbo(family, std::move(target), estimator, noise);
  parts.noise = std::make_unique<klqp::Noise>(noise);
  parts.optimizer = optimizer.make();
  return std::make_unique<klqp::Run>(std::move(parts), config,
                                     klqp::ConstSpan{params.data(), static_cast<std::size_t>(params.size())});
}

std::string until(klqp::Run& run, const Array& learning_rates, const std::vector<klqp::RuleSpec>& rules,
                  const py::object& observer, double elapsed) {
  const klqp::StopRules stop = klqp::make_rules(rules);
  const auto watch = klqp::make_observer(observer);
  const klqp::ConstSpan rates{learning_rates.data(), static_cast<std::size_t>(learning_rates.size())};
  // Invariant: from here on nothing touches Python objects but the target and the observer, which take the GIL.
  if (run.objective().native() || run.objective().work_per_step() >= kWorkWithoutGil) {
    const klqp::GilRelease release;
    return run.until(rates, stop, watch, elapsed);
  }
  return run.until(rates, stop, watch, elapsed);
}

// The noise of a step as an array (n_draws, dim).
Array noise_of_step(const klqp::Noise& noise, std::uint32_t step, Index dim) {
  Array eps = klqp::new_matrix(noise.n_draws(), dim);
  klqp::Team serial(1);
  noise.fill(step, klqp::matrix_of(eps), serial);
  return eps;
}

// Standard normals (n, dim) of draws first_draw, ... of a stream.
Array normals(std::uint64_t seed, std::uint32_t stream, std::uint32_t first_draw, Index n, Index dim) {
  Array eps = klqp::new_matrix(n, dim);
  klqp::Team serial(1);
  klqp::fill_noise(klqp::noise_key(seed, static_cast<klqp::Stream>(stream), 0, first_draw), {}, klqp::matrix_of(eps),
                   serial);
  return eps;
}

py::dict trace(const klqp::Run& run) {
  py::dict columns;
  for (std::size_t i = 0; i < klqp::Trace::kNames.size(); ++i) {
    columns[klqp::Trace::kNames[i]] = klqp::copy_vector(run.trace().column(i));
  }
  return columns;
}

py::dict rejections(const klqp::Run& run) {
  const klqp::Rejections& r = run.rejections();
  py::dict out;
  out["minus_inf"] = static_cast<std::int64_t>(r.minus_inf);
  out["invalid"] = static_cast<std::int64_t>(r.invalid);
  if (r.total() > 0.0) {
    out["first"] = run.describe_rejections();
  } else {
    out["first"] = py::none();
  }
  return out;
}

py::dict snapshot(klqp::Run& run) {
  py::dict out;
  for (const auto& [name, values] : run.snapshot()) out[py::str(name)] = klqp::copy_vector(values);
  return out;
}

void restore(klqp::Run& run, const std::map<std::string, Array>& arrays) {
  klqp::Snapshot state;
  for (const auto& [name, values] : arrays) state[name].assign(values.data(), values.data() + values.size());
  run.restore(state);
}

}  // namespace

void bind_run(py::module_& module) {
  py::class_<klqp::EstimatorSpec>(module, "EstimatorSpec")
      .def(py::init([](std::string name, const std::string& entropy, const std::string& baseline) {
             return klqp::EstimatorSpec{std::move(name),
                                        {klqp::parse_entropy(entropy), klqp::parse_baseline(baseline)}};
           }),
           py::arg("name"), py::arg("entropy"), py::arg("baseline") = "mean");
  module.attr("ESTIMATORS") = klqp::row_names(klqp::kEstimators);

  py::class_<klqp::Noise>(module, "Noise")
      .def(py::init(&make_noise), py::arg("kind"), py::arg("n_draws"), py::arg("dim"), py::arg("seed"),
           py::arg("n_groups") = 1, py::arg("directions") = py::array_t<std::uint32_t>(),
           py::arg("uniforms") = std::vector<std::pair<Index, Index>>{})
      .def_property_readonly("n_groups", &klqp::Noise::n_groups)
      .def("fill", noise_of_step, py::arg("step"), py::arg("dim"));

  module.def("normals", normals, py::arg("seed"), py::arg("stream"), py::arg("first_draw"), py::arg("n"),
             py::arg("dim"));

  py::class_<klqp::RunConfig>(module, "RunConfig")
      .def(py::init([](double clip_value, double clip_norm, bool average, int n_threads, int n_cpus) {
             return klqp::RunConfig{{clip_value, clip_norm}, average, n_threads, n_cpus};
           }),
           py::arg("clip_value"), py::arg("clip_norm"), py::arg("average"), py::arg("n_threads"),
           py::arg("n_cpus") = 1);
  module.def("openmp_max_threads", &klqp::openmp_max_threads);

  py::class_<klqp::Run>(module, "Run")
      .def(py::init(&make_run), py::arg("family"), py::arg("target"), py::arg("noise"), py::arg("estimator"),
           py::arg("optimizer"), py::arg("config"), py::arg("params"))
      .def("until", until, py::arg("learning_rates"), py::arg("rules"), py::arg("observer"), py::arg("elapsed") = 0.0)
      .def("begin", &klqp::Run::begin)
      .def("reset", &klqp::Run::reset)
      .def(
          "set_params",
          [](klqp::Run& run, const Array& params) {
            run.set_params({params.data(), static_cast<std::size_t>(params.size())});
          },
          py::arg("params"))
      .def(
          "set_relative_rates",
          [](klqp::Run& run, const Array& rates) {
            run.set_relative_rates({rates.data(), static_cast<std::size_t>(rates.size())});
          },
          py::arg("rates"))
      .def_property_readonly("last_gradient",
                             [](const klqp::Run& run) { return klqp::copy_vector(run.last_gradient()); })
      .def_property_readonly("native", [](const klqp::Run& run) { return run.objective().native(); })
      .def(
          "gradient",
          [](klqp::Run& run, std::uint32_t step) {
            Array grad = klqp::new_vector(static_cast<Index>(run.params().size()));
            const double elbo = run.gradient(step, klqp::span_of(grad));
            return py::make_tuple(elbo, grad);
          },
          py::arg("step"))
      .def("snapshot", snapshot)
      .def("restore", restore, py::arg("state"))
      .def_property_readonly("step_count", &klqp::Run::step_count)
      .def_property_readonly("params", [](const klqp::Run& run) { return klqp::copy_vector(run.params()); })
      .def_property_readonly("solution", [](const klqp::Run& run) { return klqp::copy_vector(run.solution()); })
      .def_property_readonly("last",
                             [](const klqp::Run& run) {
                               const auto& trace = run.trace();
                               py::dict row;
                               for (std::size_t i = 0; i < klqp::Trace::kNames.size(); ++i) {
                                 row[klqp::Trace::kNames[i]] = trace.column(i).back();
                               }
                               return row;
                             })
      .def_property_readonly("trace", trace)
      .def_property_readonly("rejections", rejections);
}
