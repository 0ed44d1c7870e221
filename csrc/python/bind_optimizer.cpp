// Optimizers in Python: their specs, and a path for comparing them with reference implementations.
#include <pybind11/stl.h>

#include "python/bindings.hpp"
#include "python/numpy.hpp"
#include "python/specs.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Index;

namespace {

// The parameters after each of T updates from start (P) with given gradients (T, P) and learning rates (T).
Array optimizer_path(const klqp::OptimizerSpec& spec, const Array& start, const Array& grads, const Array& rates) {
  const Index n_params = start.size();
  const auto gradients = klqp::view_matrix(grads, n_params, "grads");
  const auto learning_rates = klqp::view_vector(rates, gradients.rows, "rates");
  const auto optimizer = spec.make();
  std::vector<double> params(start.data(), start.data() + n_params);
  Array path = klqp::new_matrix(gradients.rows, n_params);
  klqp::Team serial(1);
  optimizer->start(params);
  for (Index t = 0; t < gradients.rows; ++t) {
    optimizer->update({gradients.row(t), params.size()}, learning_rates[t], params, klqp::all_of(params.size()),
                      serial);
    std::copy(params.begin(), params.end(), klqp::matrix_of(path).row(t));
  }
  return path;
}

}  // namespace

void bind_optimizer(py::module_& module) {
  using klqp::OptimizerSpec;
  py::class_<OptimizerSpec>(module, "OptimizerSpec")
      .def(py::init([](std::string name, klqp::OptimizerOptions options) {
             OptimizerSpec spec{std::move(name), std::move(options)};
             (void)spec.make();
             return spec;
           }),
           py::arg("name"), py::arg("options"));
  module.def("optimizer_path", optimizer_path, py::arg("spec"), py::arg("start"), py::arg("grads"), py::arg("rates"));
  module.attr("OPTIMIZERS") = klqp::row_names(klqp::kOptimizers);
}
