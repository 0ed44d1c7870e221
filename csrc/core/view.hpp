// Non-owning views of row-major arrays of doubles.
#pragma once

#include <span>

#include "kernels/kernels.hpp"

namespace klqp {

using Span = std::span<double>;
using ConstSpan = std::span<const double>;

struct ConstMatrix {
  const double* data = nullptr;
  Index rows = 0, cols = 0;

  const double* row(Index i) const noexcept { return data + i * cols; }
};

struct Matrix {
  double* data = nullptr;
  Index rows = 0, cols = 0;

  double* row(Index i) const noexcept { return data + i * cols; }
  Index size() const noexcept { return rows * cols; }
  operator ConstMatrix() const noexcept { return {data, rows, cols}; }
};

}  // namespace klqp
