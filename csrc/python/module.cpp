// The extension module klqp._core.
#include "python/bindings.hpp"

// Objects of the core are not shared between threads without the caller's own lock; there is no global state.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "The C++ core of klqp.";
  module.attr("__version__") = KLQP_VERSION;
  bind_errors(module);
  bind_kernels(module);
  bind_bridgestan(module);
  bind_targets(module);
  bind_family(module);
  bind_bijectors(module);
  bind_optimizer(module);
  bind_search(module);
  bind_run(module);
  bind_design(module);
  bind_many(module);
  bind_model(module);
}
