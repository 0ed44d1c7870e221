// Targets in Python: a Python function, or a native one in a capsule.
#include <pybind11/stl.h>

#include "adapters/bridgestan.hpp"
#include "core/native_target.hpp"
#include "python/bindings.hpp"
#include "python/feed.hpp"
#include "python/gil.hpp"
#include "python/numpy.hpp"
#include "python/python_target.hpp"

namespace py = pybind11;
using klqp::Index;

namespace {

// A native target that keeps the capsule, and with it the function's owner, alive.
class CapsuleTarget : public klqp::NativeTarget {
 public:
  CapsuleTarget(py::capsule capsule, Index dim)
      : NativeTarget(*capsule.get_pointer<klqp_logdensity_v1>(), dim), capsule_(std::move(capsule)) {}
  ~CapsuleTarget() override {
    const klqp::GilAcquire gil;
    capsule_ = {};
  }

 private:
  py::object capsule_;
};

// A Stan model, which knows its dimension and says why it cannot compute a point.
class BridgeStanTarget final : public CapsuleTarget {
 public:
  BridgeStanTarget(py::capsule capsule, Index dim) : CapsuleTarget(std::move(capsule), dim) {
    if (dim != model().dim) {
      throw klqp::ConfigError("the Stan model has " + std::to_string(model().dim) + " unconstrained coordinates, not " +
                              std::to_string(dim));
    }
  }
  std::string explain(Index i) override { return klqp::bridgestan_error(model(), point(i)); }

 private:
  const klqp::BridgeStanModel& model() const noexcept {
    return *static_cast<const klqp::BridgeStanModel*>(function().user_data);
  }
};

std::shared_ptr<klqp::Target> native_target(py::capsule capsule, Index dim) {
  if (std::string(capsule.name() ? capsule.name() : "") != KLQP_CAPSULE_NAME) {
    throw py::type_error(std::string("expected a capsule named \"") + KLQP_CAPSULE_NAME + "\"");
  }
  const auto* const density = capsule.get_pointer<klqp_logdensity_v1>();
  if (density->fn == reinterpret_cast<void*>(&klqp::bridgestan_log_density))
    return std::make_shared<BridgeStanTarget>(std::move(capsule), dim);
  return std::make_shared<CapsuleTarget>(std::move(capsule), dim);
}

// Hands a native target the i-th of some addresses for problem i.
klqp::Feed user_data_feed(const std::shared_ptr<klqp::Target>& target, std::vector<std::uintptr_t> addresses) {
  auto native = std::dynamic_pointer_cast<klqp::NativeTarget>(target);
  if (native == nullptr) throw py::type_error("only native log densities have user data");
  return {[native, addresses = std::move(addresses)](Index problem) {
    native->set_user_data(reinterpret_cast<void*>(addresses.at(static_cast<std::size_t>(problem))));
  }};
}

// z (n, D) -> logp (n,), and the gradient (n, D) when asked for and there is one, otherwise None.
py::tuple evaluate(klqp::Target& target, const klqp::Array& z, bool gradient, int n_threads, int n_cpus) {
  const auto points = klqp::view_matrix(z, target.dim(), "z");
  const klqp::Matrix here = target.points(points.rows);
  std::copy_n(points.data, here.size(), here.data);
  const klqp::CpuShare share(n_threads, n_cpus);
  klqp::Team team(target.native() ? n_threads : 1, &share);
  team.share_short_work(target.work() >= klqp::kWorkForTeam);
  const auto order = gradient ? klqp::Order::gradient : klqp::Order::value;
  const klqp::Evaluation result = [&] {
    if (!target.native()) return target.evaluate(order, team);
    const klqp::GilRelease release;
    return target.evaluate(order, team);
  }();
  klqp::Array logp(static_cast<py::ssize_t>(points.rows), result.logp);
  if (!gradient || result.grad == nullptr) return py::make_tuple(logp, py::none());
  klqp::Array grad({static_cast<py::ssize_t>(points.rows), static_cast<py::ssize_t>(points.cols)}, result.grad);
  return py::make_tuple(logp, grad);
}

}  // namespace

void bind_targets(py::module_& module) {
  py::class_<klqp::Target, std::shared_ptr<klqp::Target>>(module, "Target")
      .def_property_readonly("dim", &klqp::Target::dim)
      .def_property_readonly("native", &klqp::Target::native)
      .def("evaluate", evaluate, py::arg("z"), py::arg("gradient") = true, py::arg("n_threads") = 1,
           py::arg("n_cpus") = 1);
  py::class_<klqp::PythonTarget, klqp::Target, std::shared_ptr<klqp::PythonTarget>>(module, "PythonTarget")
      .def(py::init<py::object, std::vector<py::ssize_t>, py::dtype, py::object>(), py::arg("fn"), py::arg("shape"),
           py::arg("dtype"), py::arg("coerce"))
      .def("prime", &klqp::PythonTarget::prime, py::arg("z"));
  module.def("user_data_feed", user_data_feed, py::arg("target"), py::arg("addresses"));
  module.def("native_target", native_target, py::arg("capsule"), py::arg("dim"));
}
