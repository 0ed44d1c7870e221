// What the bijectors of matrices share: symmetric products and factorisations on full row-major storage.
#pragma once

#include <cmath>
#include <limits>

#include "model/bijectors/bijector.hpp"

namespace klqp {

// Rows of the largest matrix: pullbacks of symmetric ones keep columns on the stack.
inline constexpr Index kLargestMatrix = 1024;

// Kernels for long rows; a call is not worth it for short ones.
inline double row_dot(Index n, const double* x, const double* y) noexcept {
  if (n >= 16) return kernels().dot(n, x, y);
  double sum = 0.0;
  for (Index i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

inline void row_axpy(Index n, double a, const double* x, double* y) noexcept {
  if (n >= 16) return kernels().axpy(n, a, x, y);
  for (Index i = 0; i < n; ++i) y[i] += a * x[i];
}

// z (size, size): the lower triangle holds L on entry, and all of it L L^T on return.
inline void square_factor(Index size, double* z) noexcept {
  for (Index i = size - 1; i >= 0; --i) {
    for (Index j = i; j >= 0; --j) z[i * size + j] = row_dot(j + 1, z + i * size, z + j * size);
  }
  for (Index i = 0; i < size; ++i) {
    for (Index j = i + 1; j < size; ++j) z[i * size + j] = z[j * size + i];
  }
}

// cot (size) = the cotangent of column j of L from rows j on, where g (size, size) is that of L L^T and column (size)
// is the column of L: (g + g^T) L. Entries before j are neither read nor written. `diagonal` says whether the entries
// of g on its diagonal count.
inline void pull_column(Index size, Index j, const double* g, const double* column, bool diagonal,
                        double* cot) noexcept {
  for (Index i = j; i < size; ++i) {
    const double* row = g + i * size;
    cot[i] = row_dot(i - j, row + j, column + j) + row_dot(size - i - 1, row + i + 1, column + i + 1);
    if (diagonal) cot[i] += 2.0 * row[i] * column[i];
  }
  for (Index i = j; i < size; ++i) {
    row_axpy(i - j, column[i], g + i * size + j, cot + j);
    row_axpy(size - i - 1, column[i], g + i * size + i + 1, cot + i + 1);
  }
}

// Whether the entries of z (size, size) above the diagonal are 0.
inline bool is_lower_triangular(Index size, const double* z) noexcept {
  for (Index i = 0; i < size; ++i) {
    for (Index j = i + 1; j < size; ++j) {
      if (z[i * size + j] != 0.0) return false;
    }
  }
  return true;
}

// Whether z (size, size) is symmetric, relative to its diagonal.
inline bool is_symmetric(Index size, const double* z) noexcept {
  for (Index i = 0; i < size; ++i) {
    for (Index j = 0; j < i; ++j) {
      const double scale = std::sqrt(z[i * size + i]) * std::sqrt(z[j * size + j]);
      if (!(std::abs(z[i * size + j] - z[j * size + i]) <= kSupportTolerance * scale)) return false;
    }
  }
  return true;
}

}  // namespace klqp
