// What the bijectors of matrices share: symmetric products and factorisations on full row-major storage.
#pragma once

#include <cmath>
#include <limits>

#include "model/bijectors/bijector.hpp"

namespace klqp {

// Rows of the largest matrix: pullbacks of symmetric ones keep columns on the stack.
inline constexpr Index kLargestMatrix = 1024;

// z (size, size): the lower triangle holds L on entry, and all of it L L^T on return.
inline void square_factor(Index size, double* z) noexcept {
  for (Index i = size - 1; i >= 0; --i) {
    for (Index j = i; j >= 0; --j) z[i * size + j] = kernels().dot(j + 1, z + i * size, z + j * size);
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
    cot[i] = kernels().dot(i - j, row + j, column + j) + kernels().dot(size - i - 1, row + i + 1, column + i + 1);
    if (diagonal) cot[i] += 2.0 * row[i] * column[i];
  }
  for (Index i = j; i < size; ++i) {
    kernels().axpy(i - j, column[i], g + i * size + j, cot + j);
    kernels().axpy(size - i - 1, column[i], g + i * size + i + 1, cot + i + 1);
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
