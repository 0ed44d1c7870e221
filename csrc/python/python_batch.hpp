// PythonBatch: a log density written in Python for several problems at once.
#pragma once

#include <pybind11/numpy.h>

#include "core/lockstep.hpp"
#include "python/gil.hpp"
#include "python/numpy.hpp"

namespace klqp {

// Takes the GIL itself. Exceptions of the function pass through unchanged.
class PythonBatch final : public BatchTarget {
 public:
  // fn(z (n, n_draws, *shape), problems (n,)) gives the pair logp (n, n_draws), grad (n, n_draws, *shape).
  // coerce(value, shape, what) as for PythonTarget.
  PythonBatch(pybind11::object fn, pybind11::object coerce, Index n_draws, Index dim)
      : fn_(std::move(fn)), coerce_(std::move(coerce)), n_draws_(n_draws), dim_(dim) {}
  ~PythonBatch() override {
    const GilAcquire gil;
    fn_ = coerce_ = {};
    z_ = logp_ = grad_ = {};
  }

  // New ones each time: the function may keep what it gets.
  double* points(Index n) override {
    const GilAcquire gil;
    z_ = pybind11::array_t<double>({n, n_draws_, dim_});
    return z_.mutable_data();
  }

  Evaluation evaluate(const std::vector<Index>& problems) override {
    namespace py = pybind11;
    const GilAcquire gil;
    const auto n = static_cast<Index>(problems.size());
    const py::object value = call_python(fn_, z_, py::array_t<Index>(n, problems.data()));
    if (!PyTuple_Check(value.ptr()) || PyTuple_GET_SIZE(value.ptr()) != 2) {
      throw py::type_error("the log density must return the pair (logp, grad), but it returned " +
                           py::cast<std::string>(py::repr(py::type::of(value))));
    }
    const auto pair = py::reinterpret_borrow<py::tuple>(value);
    logp_ = call_python(coerce_, pair[0], py::make_tuple(n, n_draws_), py::str("logp")).cast<Array>();
    grad_ = call_python(coerce_, pair[1], py::make_tuple(n, n_draws_, dim_), py::str("grad")).cast<Array>();
    return {logp_.data(), grad_.data()};
  }

 private:
  pybind11::object fn_, coerce_;
  Index n_draws_, dim_;
  pybind11::array_t<double> z_;
  Array logp_, grad_;
};

}  // namespace klqp
