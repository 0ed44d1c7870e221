// Triangular solves, the Cholesky factor and its reverse mode, for multivariate normals.
//
// Matrices are (n, n), row-major. The factor and its reverse mode go by blocks of kBlock columns, so that almost all of
// their work is in the products of matmul.inl.
#pragma once

#include "kernels/matmul.inl"
#include "kernels/vector.inl"

namespace klqp {
namespace {

constexpr Index kBlock = 32;

KLQP_INLINE Index smaller(Index a, Index b) { return a < b ? a : b; }

void solve_lower(Index n, const double* l, double* x) {
  for (Index i = 0; i < n; ++i) x[i] = (x[i] - dot(i, l + i * n, x)) / l[i * n + i];
}

void solve_lower_transposed(Index n, const double* l, double* x) {
  for (Index i = n; i-- > 0;) {
    x[i] /= l[i * n + i];
    axpy(i, -x[i], l + i * n, x);
  }
}

// X (rows, b) <- X L^-T, or X L^-1 with Backward, for L (b, b) lower, b <= kBlock, in rows l_step and x_step apart.
// Rows of X lie along the lanes.
template <bool Backward>
void solve_rows(Index rows, Index b, const double* l, Index l_step, double* x, Index x_step) {
  alignas(64) double panel[kBlock * kTileCols];
  for (; rows > 0; rows -= kTileCols, x += kTileCols * x_step) {
    const Index used = smaller(rows, kTileCols);
    const Index vectors = (used + kWidth - 1) / kWidth;
    pack_columns(b, x, x_step, used, panel);
    for (Index s = 0; s < b; ++s) {
      const Index c = Backward ? b - 1 - s : s;
      const double pivot = l[c * l_step + c];
      double* const at = panel + c * kTileCols;
      Vector sums[kTileVectors];
      for (int v = 0; v < vectors; ++v) sums[v] = load(at + v * kWidth);
      for (Index u = 0; u < s; ++u) {
        const Index t = Backward ? b - 1 - u : u;
        const double factor = -(Backward ? l[t * l_step + c] : l[c * l_step + t]);
        for (int v = 0; v < vectors; ++v) {
          sums[v] = madd(factor - Vector{}, load(panel + t * kTileCols + v * kWidth), sums[v]);
        }
      }
      for (int v = 0; v < vectors; ++v) store(at + v * kWidth, sums[v] / pivot);
    }
    for (Index i = 0; i < used; ++i) {
      for (Index c = 0; c < b; ++c) x[i * x_step + c] = panel[c * kTileCols + i];
    }
  }
}

void solve_right_lower(Index m, Index n, const double* l, Index ldl, double* x, Index ldx) {
  for (Index j = n == 0 ? -1 : (n - 1) / kBlock * kBlock; j >= 0; j -= kBlock) {
    const Index b = smaller(n - j, kBlock), later = j + b;
    nn<true>(m, b, n - later, x + later, ldx, l + later * ldl + j, ldl, x + j, ldx);
    solve_rows<true>(m, b, l + j * ldl + j, ldl, x + j, ldx);
  }
}

void solve_right_lower_transposed(Index m, Index n, const double* l, Index ldl, double* x, Index ldx) {
  for (Index j = 0; j < n; j += kBlock) {
    const Index b = smaller(n - j, kBlock);
    nt<true>(m, b, j, x, ldx, l + j * ldl, ldl, x + j, ldx);
    solve_rows<false>(m, b, l + j * ldl + j, ldl, x + j, ldx);
  }
}

// The factor of the lower triangle of a (b, b), rows `step` apart.
Index cholesky_block(Index b, Index step, double* a) {
  for (Index i = 0; i < b; ++i) {
    double* const row = a + i * step;
    for (Index j = 0; j < i; ++j) row[j] = (row[j] - dot(j, row, a + j * step)) / a[j * step + j];
    const double pivot = row[i] - dot(i, row, row);
    if (!(pivot > 0.0 && pivot < kInfinity)) return 1 + i;
    row[i] = __builtin_sqrt(pivot);
  }
  return 0;
}

Index cholesky(Index n, double* a) {
  for (Index j = 0; j < n; j += kBlock) {
    const Index b = smaller(n - j, kBlock);
    double* const left = a + j * n;
    double* const diagonal = left + j;
    nt<true>(n - j, b, j, left, n, left, n, diagonal, n);
    if (const Index failed = cholesky_block(b, n, diagonal)) return j + failed;
    solve_rows<false>(n - j - b, b, diagonal, n, diagonal + b * n, n);
  }
  for (Index i = 0; i < n; ++i) {
    for (Index j = i + 1; j < n; ++j) a[i * n + j] = 0.0;
  }
  return 0;
}

// Reverse mode of cholesky_block, in place: from the cotangent of the factor to that of the lower triangle.
void cholesky_pullback_block(Index b, Index step, const double* l, double* lbar) {
  for (Index k = b; k-- > 0;) {
    const double* const row = l + k * step;
    double* const row_bar = lbar + k * step;
    const double pivot = row[k];
    double sum_below = 0.0;
    for (Index i = k + 1; i < b; ++i) sum_below = madd(l[i * step + k], lbar[i * step + k], sum_below);
    const double pivot_bar = (row_bar[k] - sum_below / pivot) / pivot;
    axpy(k, -pivot_bar, row, row_bar);
    for (Index i = k + 1; i < b; ++i) {
      const double below = lbar[i * step + k] / pivot;
      lbar[i * step + k] = below;
      axpy(k, -below, l + i * step, row_bar);
      axpy(k, -below, row, lbar + i * step);
    }
    row_bar[k] = 0.5 * pivot_bar;
  }
}

// Murray (2016), "Differentiation of the Cholesky decomposition", section 3.2: the blocks of L are, for the columns j
// to j + b, R | D in the block's rows and B | C below.
void cholesky_pullback(Index n, const double* l, double* lbar) {
  for (Index j = n == 0 ? -1 : (n - 1) / kBlock * kBlock; j >= 0; j -= kBlock) {
    const Index b = smaller(n - j, kBlock);
    const Index below = n - j - b;
    const double* const r = l + j * n;
    const double* const d = r + j;
    const double* const c = d + b * n;
    double* const r_bar = lbar + j * n;
    double* const d_bar = r_bar + j;
    double* const c_bar = d_bar + b * n;
    solve_rows<true>(below, b, d, n, c_bar, n);
    nn<true>(below, j, b, c_bar, n, r, n, r_bar + b * n, n);
    tn<true>(b, b, below, c_bar, n, c, n, d_bar, n);
    cholesky_pullback_block(b, n, d, d_bar);
    tn<true>(b, j, below, c_bar, n, r + b * n, n, r_bar, n);
    double both[kBlock * kBlock];  // D_bar + D_bar^T, from its lower triangle
    for (Index i = 0; i < b; ++i) {
      for (Index t = 0; t < i; ++t) both[i * b + t] = both[t * b + i] = d_bar[i * n + t];
      both[i * b + i] = 2.0 * d_bar[i * n + i];
    }
    nn<true>(b, j, b, both, b, r, n, r_bar, n);
  }
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < i; ++j) lbar[i * n + j] = lbar[j * n + i] = 0.5 * lbar[i * n + j];
  }
}

}  // namespace
}  // namespace klqp
