// Conversions between NumPy arrays and the core's views.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/view.hpp"

namespace klqp {

// Float64, C-contiguous; converted where that loses nothing but copies.
using Array = pybind11::array_t<double, pybind11::array::c_style | pybind11::array::forcecast>;

inline Array new_vector(Index n) { return Array(static_cast<pybind11::ssize_t>(n)); }
inline Array new_matrix(Index rows, Index cols) {
  return Array({static_cast<pybind11::ssize_t>(rows), static_cast<pybind11::ssize_t>(cols)});
}

inline Span span_of(Array& array) { return {array.mutable_data(), static_cast<std::size_t>(array.size())}; }

inline ConstSpan view_vector(const Array& array, Index n, const char* what) {
  if (array.ndim() != 1 || array.shape(0) != n) {
    throw ConfigError(std::string(what) + " must have shape (" + std::to_string(n) + ",)");
  }
  return {array.data(), static_cast<std::size_t>(n)};
}

inline ConstMatrix view_matrix(const Array& array, Index cols, const char* what) {
  if (array.ndim() != 2 || array.shape(1) != cols) {
    throw ConfigError(std::string(what) + " must have shape (n, " + std::to_string(cols) + ")");
  }
  return {array.data(), array.shape(0), cols};
}

inline Matrix matrix_of(Array& array) { return {array.mutable_data(), array.shape(0), array.shape(1)}; }

inline Array copy_vector(const std::vector<double>& values) {
  return Array(static_cast<pybind11::ssize_t>(values.size()), values.data());
}

}  // namespace klqp
