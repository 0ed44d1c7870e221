// BridgeStan models in Python: addresses of a model and of its library's functions, for a capsule.
#include "adapters/bridgestan.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;
using klqp::BridgeStanModel, klqp::Index;

namespace {

BridgeStanModel make(std::uintptr_t model, std::uintptr_t value, std::uintptr_t gradient, std::uintptr_t free_error,
                     Index dim, bool propto, bool jacobian, bool threads) {
  return {reinterpret_cast<const void*>(model),
          reinterpret_cast<BridgeStanModel::Value>(value),
          reinterpret_cast<BridgeStanModel::Gradient>(gradient),
          reinterpret_cast<BridgeStanModel::FreeError>(free_error),
          dim,
          propto,
          jacobian,
          threads};
}

}  // namespace

void bind_bridgestan(py::module_& module) {
  py::class_<BridgeStanModel>(module, "BridgeStanModel")
      .def(py::init(&make), py::arg("model"), py::arg("value"), py::arg("gradient"), py::arg("free_error"),
           py::arg("dim"), py::arg("propto"), py::arg("jacobian"), py::arg("threads"))
      .def_property_readonly("address", [](const BridgeStanModel& m) { return reinterpret_cast<std::uintptr_t>(&m); })
      .def_property_readonly_static("function", [](const py::object&) {
        return reinterpret_cast<std::uintptr_t>(&klqp::bridgestan_log_density);
      });
}
