// Design matrices in NumPy's and SciPy's memory, and the terms of linear predictors.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "core/registry.hpp"
#include "model/fused/dense_matrix.hpp"
#include "model/fused/likelihoods/registry.hpp"
#include "model/fused/sparse_matrix.hpp"
#include "python/bindings.hpp"
#include "python/design.hpp"
#include "python/gil.hpp"

namespace py = pybind11;
using klqp::DesignMatrix, klqp::Index, klqp::PredictorSpec;

namespace {

using Matrix = std::shared_ptr<DesignMatrix>;

template <class T>
bool holds(const py::array& x) {
  return py::isinstance<py::array_t<T>>(x) && reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) == 0;
}

template <class T>
Matrix dense_of(const py::array& x) {
  constexpr auto size = static_cast<py::ssize_t>(sizeof(T));
  const Index rows = x.shape(0), cols = x.shape(1);
  const auto contiguous = [&](int axis) { return x.shape(axis) == 1 || x.strides(axis) == size; };
  const bool whole = x.strides(0) % size == 0 && x.strides(1) % size == 0;
  if (!whole || (!contiguous(0) && !contiguous(1))) {
    throw klqp::ConfigError("a design matrix must have contiguous rows or contiguous columns");
  }
  typename klqp::DenseMatrix<T>::Layout layout{x.strides(0) / size, x.strides(1) / size};
  if (contiguous(1)) layout.col_stride = 1;
  return std::make_shared<klqp::DenseMatrix<T>>(static_cast<const T*>(x.data()), rows, cols, layout,
                                                klqp::keep_alive(x));
}

Matrix dense(const py::array& x) {
  if (x.ndim() != 2) {
    throw klqp::ConfigError("a design matrix must have two dimensions, not " + std::to_string(x.ndim()));
  }
  if (x.size() == 0) throw klqp::ConfigError("a design matrix must have rows and columns");
  if (holds<double>(x)) return dense_of<double>(x);
  if (holds<float>(x)) return dense_of<float>(x);
  throw klqp::ConfigError("a design matrix must hold aligned float64 or float32, not " +
                          py::str(x.dtype()).cast<std::string>());
}

const py::array& contiguous(const py::array& x, const char* what) {
  if (x.ndim() == 1 && (x.size() < 2 || x.strides(0) == x.itemsize())) return x;
  throw klqp::ConfigError(std::string(what) + " of a sparse matrix must be a contiguous vector");
}

template <class T, class I>
Matrix sparse_of(const py::array& data, const py::array& indices, const py::array& indptr, Index rows, Index cols) {
  if (indptr.size() != rows + 1) throw klqp::ConfigError("indptr of a sparse matrix must have a number more than rows");
  const Index stored = std::min<Index>(data.size(), indices.size());
  return std::make_shared<klqp::SparseMatrix<T, I>>(
      static_cast<const T*>(data.data()), static_cast<const I*>(indices.data()), static_cast<const I*>(indptr.data()),
      rows, cols, stored, klqp::keep_alive(py::make_tuple(data, indices, indptr)));
}

template <class T>
Matrix sparse_of_values(const py::array& data, const py::array& indices, const py::array& indptr, Index rows,
                        Index cols) {
  const auto both = [&]<class I>(I) { return holds<I>(indices) && holds<I>(indptr); };
  if (both(std::int32_t{})) return sparse_of<T, std::int32_t>(data, indices, indptr, rows, cols);
  if (both(std::int64_t{})) return sparse_of<T, std::int64_t>(data, indices, indptr, rows, cols);
  throw klqp::ConfigError("indices and indptr of a sparse matrix must both be int32 or both int64");
}

Matrix csr(const py::array& data, const py::array& indices, const py::array& indptr, std::pair<Index, Index> shape) {
  contiguous(data, "data");
  contiguous(indices, "indices");
  contiguous(indptr, "indptr");
  const auto [rows, cols] = shape;
  if (holds<double>(data)) return sparse_of_values<double>(data, indices, indptr, rows, cols);
  if (holds<float>(data)) return sparse_of_values<float>(data, indices, indptr, rows, cols);
  throw klqp::ConfigError("a sparse matrix must hold float64 or float32, not " +
                          py::str(data.dtype()).cast<std::string>());
}

}  // namespace

void bind_design(py::module_& module) {
  py::class_<DesignMatrix, std::shared_ptr<DesignMatrix>>(module, "DesignMatrix")
      .def(py::init(&dense), py::arg("x"))
      .def_static("csr", &csr, py::arg("data"), py::arg("indices"), py::arg("indptr"), py::arg("shape"))
      .def_property_readonly("shape", [](const DesignMatrix& x) { return std::make_pair(x.rows(), x.cols()); });
  using Id = PredictorSpec::Id;
  py::class_<PredictorSpec>(module, "Predictor")
      .def(py::init([](Index n, Index k) { return PredictorSpec{n, k, {}, {}, {}}; }), py::arg("n"), py::arg("k") = 1)
      .def(
          "matrix",
          [](PredictorSpec& p, Matrix design, Id coef) { p.matrices.push_back({std::move(design), coef, 0}); },
          py::arg("design"), py::arg("coef"))
      .def(
          "data_matrix", [](PredictorSpec& p, Id slot, Id coef) { p.matrices.push_back({nullptr, coef, slot}); },
          py::arg("slot"), py::arg("coef"))
      .def(
          "gather",
          [](PredictorSpec& p, Id table, Id index, long covariate) { p.gathers.push_back({table, index, covariate}); },
          py::arg("table"), py::arg("index"), py::arg("covariate") = -1)
      .def(
          "add", [](PredictorSpec& p, Id slot) { p.added.push_back(slot); }, py::arg("slot"))
      .def("rows", [](PredictorSpec& p, long slot) { p.rows = slot; }, py::arg("slot"));
  module.attr("GLM_LIKELIHOODS") = klqp::row_names(klqp::kGlmLikelihoods);
}
