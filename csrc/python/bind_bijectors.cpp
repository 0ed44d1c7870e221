// Bijectors in Python: the map of each row of a batch, its inverse and its pullback.
#include <pybind11/stl.h>

#include "model/bijectors/registry.hpp"
#include "python/bindings.hpp"
#include "python/numpy.hpp"

namespace py = pybind11;
using klqp::Array, klqp::Bijector, klqp::BijectorConfig, klqp::Index;

namespace {

py::tuple forward(const Bijector& bijector, const Array& u) {
  const auto points = klqp::view_matrix(u, bijector.n_unconstrained(), "u");
  Array z = klqp::new_matrix(points.rows, bijector.n_constrained());
  Array log_jacobian = klqp::new_matrix(points.rows, bijector.n_events());
  const auto values = klqp::matrix_of(z), logs = klqp::matrix_of(log_jacobian);
  for (Index s = 0; s < points.rows; ++s) bijector.forward(points.row(s), values.row(s), logs.row(s));
  return py::make_tuple(z, log_jacobian);
}

Array inverse(const Bijector& bijector, const Array& z) {
  const auto values = klqp::view_matrix(z, bijector.n_constrained(), "z");
  Array u = klqp::new_matrix(values.rows, bijector.n_unconstrained());
  const auto points = klqp::matrix_of(u);
  for (Index s = 0; s < values.rows; ++s) bijector.inverse(values.row(s), points.row(s));
  return u;
}

klqp::ConstMatrix view_rows(const Array& array, Index rows, Index cols, const char* what) {
  const auto view = klqp::view_matrix(array, cols, what);
  if (view.rows != rows) throw klqp::ConfigError(std::string(what) + " must have as many rows as u");
  return view;
}

Array pullback(const Bijector& bijector, const Array& u, const Array& cot_z, const Array& cot_log_jacobian) {
  const auto points = klqp::view_matrix(u, bijector.n_unconstrained(), "u");
  const auto cot_values = view_rows(cot_z, points.rows, bijector.n_constrained(), "cot_z");
  const auto cot_logs = view_rows(cot_log_jacobian, points.rows, bijector.n_events(), "cot_log_jacobian");
  std::vector<double> z(static_cast<std::size_t>(bijector.n_constrained()));
  std::vector<double> log_jacobian(static_cast<std::size_t>(bijector.n_events()));
  Array cot_u = klqp::new_matrix(points.rows, bijector.n_unconstrained());
  const auto out = klqp::matrix_of(cot_u);
  std::fill_n(out.data, out.size(), 0.0);
  for (Index s = 0; s < points.rows; ++s) {
    bijector.forward(points.row(s), z.data(), log_jacobian.data());
    bijector.add_pullback(points.row(s), z.data(), cot_values.row(s), cot_logs.row(s), out.row(s));
  }
  return cot_u;
}

}  // namespace

void bind_bijectors(py::module_& module) {
  py::class_<Bijector>(module, "Bijector")
      .def(py::init([](const std::string& name, Index n_events, Index size, std::vector<double> lower,
                       std::vector<double> upper) {
             return klqp::make_bijector(name, {n_events, size, std::move(lower), std::move(upper)});
           }),
           py::arg("name"), py::arg("n_events") = 1, py::arg("size") = 1, py::arg("lower") = std::vector<double>(),
           py::arg("upper") = std::vector<double>())
      .def_property_readonly("name", &Bijector::name)
      .def_property_readonly("n_unconstrained", &Bijector::n_unconstrained)
      .def_property_readonly("n_constrained", &Bijector::n_constrained)
      .def_property_readonly("n_events", &Bijector::n_events)
      .def("forward", forward, py::arg("u"))
      .def("inverse", inverse, py::arg("z"))
      .def("pullback", pullback, py::arg("u"), py::arg("cot_z"), py::arg("cot_log_jacobian"));
  module.attr("BIJECTORS") = klqp::row_names(klqp::kBijectors);
}
