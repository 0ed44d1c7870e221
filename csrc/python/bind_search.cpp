// Searches by L-BFGS in Python: asked for points, told values.
#include <pybind11/functional.h>

#include "core/search/search.hpp"
#include "python/bindings.hpp"
#include "python/numpy.hpp"

namespace py = pybind11;
using klqp::Array, klqp::ConstSpan, klqp::Index, klqp::InverseHessian, klqp::Search, klqp::Span;

namespace {

ConstSpan whole(const Array& array) { return {array.data(), static_cast<std::size_t>(array.size())}; }
Array copy_of(ConstSpan v) { return Array(static_cast<py::ssize_t>(v.size()), v.data()); }

std::shared_ptr<InverseHessian> make_memory(Index size, const py::object& first) {
  if (size < 1) throw klqp::ConfigError("a memory needs at least one pair");
  if (first.is_none()) return std::make_shared<InverseHessian>(size, InverseHessian::Product());
  return std::make_shared<InverseHessian>(size, [first](ConstSpan v, Span out) {
    const auto product = first(copy_of(v)).cast<Array>();
    const ConstSpan view = klqp::view_vector(product, static_cast<Index>(out.size()), "first(v)");
    std::copy(view.begin(), view.end(), out.begin());
  });
}

Array times(InverseHessian& memory, const Array& v) {
  Array out = klqp::new_vector(static_cast<Index>(v.size()));
  memory.times(whole(v), klqp::span_of(out));
  return out;
}

Search make_search(const Array& start, double tolerance, Index max_iter, std::shared_ptr<InverseHessian> memory,
                   const py::object& guard, bool keep_path) {
  Search::Guard native;
  if (!guard.is_none()) native = [guard](ConstSpan x) { return guard(copy_of(x)).cast<std::string>(); };
  return Search(whole(start), {tolerance, max_iter, keep_path}, std::move(memory), std::move(native));
}

// Rows (n, D) of what lies one after the other.
Array rows(const Search& search, const std::vector<double>& values) {
  Array out = klqp::new_matrix(static_cast<Index>(values.size()) / search.dim(), search.dim());
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

}  // namespace

void bind_search(py::module_& module) {
  py::class_<InverseHessian, std::shared_ptr<InverseHessian>>(module, "InverseHessian")
      .def(py::init(&make_memory), py::arg("size"), py::arg("first") = py::none())
      .def(
          "add",
          [](InverseHessian& memory, const Array& s, const Array& y) {
            return memory.add(whole(s), klqp::view_vector(y, static_cast<Index>(s.size()), "y"));
          },
          py::arg("s"), py::arg("y"))
      .def("clear", &InverseHessian::clear)
      .def("times", times, py::arg("v"))
      .def("__len__", &InverseHessian::n_pairs);
  py::class_<Search>(module, "Search")
      .def(py::init(&make_search), py::arg("start"), py::arg("tolerance"), py::arg("max_iter"), py::arg("memory"),
           py::arg("guard") = py::none(), py::arg("keep_path") = true)
      .def_property_readonly("point", [](const Search& search) { return klqp::copy_vector(search.point()); })
      .def(
          "tell",
          [](Search& search, double value, const Array& gradient) {
            if (search.done()) throw klqp::ConfigError("the search is over");
            search.tell(value, klqp::view_vector(gradient, search.dim(), "gradient"));
          },
          py::arg("value"), py::arg("gradient"))
      .def_property_readonly("memory", &Search::memory)
      .def_property_readonly("done", &Search::done)
      .def_property_readonly("converged", &Search::converged)
      .def_property_readonly("why", &Search::why)
      .def_property_readonly("f", [](const Search& search) { return klqp::copy_vector(search.values()); })
      .def_property_readonly("x", [](const Search& search) { return rows(search, search.path()); })
      .def_property_readonly("g", [](const Search& search) { return rows(search, search.gradients()); });
}
