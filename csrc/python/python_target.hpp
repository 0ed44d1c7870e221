// PythonTarget: a log density written in Python, called once for a whole batch on the calling thread.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "core/target.hpp"

namespace klqp {

// Takes the GIL itself, so that a run may or may not hold it. Exceptions of the function pass through unchanged.
class PythonTarget final : public Target {
 public:
  // fn(z) with z (n, *shape) of `dtype`. coerce(value, shape, what) returns a C-contiguous float64 array of that
  // shape or raises; it is called only for results that are not one already.
  PythonTarget(pybind11::object fn, std::vector<pybind11::ssize_t> shape, pybind11::dtype dtype,
               pybind11::object coerce);
  ~PythonTarget() override;

  Index dim() const override { return dim_; }
  bool native() const override { return false; }
  Matrix points(Index n) override;
  Evaluation evaluate(Order order, Team& team) override;

  // Evaluates at z (n, dim) with all that the function gives and keeps the result: evaluating at the same points
  // next costs no second call. Returns whether the function gives gradients.
  bool prime(pybind11::array_t<double, pybind11::array::c_style> z);

 private:
  struct Result {
    pybind11::object logp, grad;
  };

  pybind11::object argument() const;
  Result call(bool needs_gradient);
  pybind11::object checked(pybind11::object value, const std::vector<pybind11::ssize_t>& shape, const char* what);
  bool is_primed() const noexcept;

  pybind11::object fn_, coerce_;
  std::vector<pybind11::ssize_t> shape_;
  pybind11::dtype dtype_;
  Index dim_;
  bool float32_;

  pybind11::object z_;        // the batch handed out: a float64 array (n, dim)
  double* z_data_ = nullptr;  // its data
  Index n_ = 0;
  Result result_;  // keeps the last results alive
  std::vector<double> primed_z_;
  Result primed_;
};

}  // namespace klqp
