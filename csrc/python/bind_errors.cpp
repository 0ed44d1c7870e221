// Exceptions of the core in Python.
#include "core/errors.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

void bind_errors(py::module_& module) {
  py::register_exception<klqp::TargetError>(module, "TargetError", PyExc_ArithmeticError);
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const klqp::ConfigError& config) {
      py::set_error(PyExc_ValueError, config.what());
    }
  });
}
