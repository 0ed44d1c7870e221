// Small dense matrix products.
//
// All products run through one register-blocked tile. One operand is spread along the lanes of the registers (the
// "wide" one, up to kTileCols columns of the tile), the other gives one number a row of the tile. An element of C is
// always the same sum: over blocks of kDepth terms, each in the order of k by fused multiply-adds from zero, added to
// C one block after the other. Neither the tile, nor its edges, nor which operand is the wide one changes a bit of it.
#pragma once

#include "kernels/simd.inl"

namespace klqp {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif
#if defined(__SSE2__) && !defined(__AVX__)
constexpr int kTileVectors = 2;  // no three-operand multiply-add: two registers are needed for products
#else
constexpr int kTileVectors = 3;
#endif
constexpr int kTileCols = kWidth * kTileVectors;
constexpr Index kDepth = 128;  // terms of a block: a packed panel of the wide operand stays in the first cache
constexpr Index kRowBlock =
    128;  // rows of C that share the panels: their part of the other operand stays in the second
constexpr Index kCached = 16384;  // numbers of the other operand that may be read again for each panel
constexpr int kRowCols = 16;      // columns of a single row at a time
constexpr Index kPanels = 48;     // columns that are finished, over all of k, before the next
constexpr Index kShallow = 16;    // terms of a block that is not worth packing
constexpr Index kAhead = 48;      // columns that are asked for before they are packed

// A matrix in memory: element (i, j) at data[i * row + j * col].
struct View {
  const double* data;
  Index row, col;
};

// Rows x (kWidth * Vectors) sums in registers over `depth` terms, a (Rows, depth) and wide (depth, ...) with contiguous
// rows `step` apart; then C (Rows, cols) += or -= the sums, where cols may leave out lanes of the last vector.
template <int Rows, int Vectors, bool Subtract>
KLQP_INLINE void tile(Index depth, View a, const double* wide, Index step, double* c, Index c_row, Index c_col,
                      Index cols) {
  Vector sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) sums[i][v] = Vector{};
  }
  if (c_col == 1) {  // C is fetched while the sums run
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      __builtin_prefetch(c + i * c_row, 1);
      if (Vectors * kWidth > 8) __builtin_prefetch(c + i * c_row + 8, 1);
    }
  }
  const double* p = a.data;
  for (Index t = 0; t < depth; ++t, p += a.col, wide += step) {
    Vector b[Vectors];
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) b[v] = load(wide + v * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const Vector x = p[i * a.row] - Vector{};  // in all lanes
#pragma GCC unroll 12
      for (int v = 0; v < Vectors; ++v) sums[i][v] = madd(x, b[v], sums[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) {
      const Vector s = Subtract ? -sums[i][v] : sums[i][v];
      double* const out = c + i * c_row + v * kWidth * c_col;
      if (c_col == 1 && (v + 1) * kWidth <= cols) {
        store(out, load(out) + s);
      } else {
        double lanes[kWidth];
        store(lanes, s);
        for (Index l = 0; l < kWidth && v * kWidth + l < cols; ++l) out[l * c_col] += lanes[l];
      }
    }
  }
}

// All rows of C (m, cols), kTileRows at a time, then fewer.
template <int Vectors, bool Subtract>
void tiles(Index m, Index depth, View a, const double* wide, Index step, double* c, Index c_row, Index c_col,
           Index cols) {
  const auto advance = [&](Index rows) {
    a.data += rows * a.row;
    c += rows * c_row;
    m -= rows;
  };
  for (; m >= kTileRows; advance(kTileRows)) {
    tile<kTileRows, Vectors, Subtract>(depth, a, wide, step, c, c_row, c_col, cols);
  }
  if constexpr (kTileRows > 4) {
    if (m >= 4) {
      tile<4, Vectors, Subtract>(depth, a, wide, step, c, c_row, c_col, cols);
      advance(4);
    }
  }
  if (m == 3) {
    tile<3, Vectors, Subtract>(depth, a, wide, step, c, c_row, c_col, cols);
  } else if (m == 2) {
    tile<2, Vectors, Subtract>(depth, a, wide, step, c, c_row, c_col, cols);
  } else if (m == 1) {
    tile<1, Vectors, Subtract>(depth, a, wide, step, c, c_row, c_col, cols);
  }
}

template <bool Subtract>
void tiles(Index m, Index depth, View a, const double* wide, Index step, double* c, Index c_row, Index c_col,
           Index cols) {
  if (cols <= kWidth) return tiles<1, Subtract>(m, depth, a, wide, step, c, c_row, c_col, cols);
  if constexpr (kTileVectors > 2) {
    if (cols > 2 * kWidth) return tiles<3, Subtract>(m, depth, a, wide, step, c, c_row, c_col, cols);
  }
  tiles<2, Subtract>(m, depth, a, wide, step, c, c_row, c_col, cols);
}

// The transpose of a square of kWidth vectors, in place: exchanges the off-diagonal quarters of the squares of 2, of 4
// and of 8.
KLQP_INLINE void transpose(Vector (&x)[kWidth]) {
  const auto exchange = [&x](int i, int j, Vector low, Vector high) {
    x[i] = low;
    x[j] = high;
  };
#if defined(__AVX512F__)
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    exchange(i, i + 1, __builtin_shufflevector(x[i], x[i + 1], 0, 8, 2, 10, 4, 12, 6, 14),
             __builtin_shufflevector(x[i], x[i + 1], 1, 9, 3, 11, 5, 13, 7, 15));
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const int i = q / 2 * 4 + q % 2;  // 0, 1, 4, 5
    exchange(i, i + 2, __builtin_shufflevector(x[i], x[i + 2], 0, 1, 8, 9, 4, 5, 12, 13),
             __builtin_shufflevector(x[i], x[i + 2], 2, 3, 10, 11, 6, 7, 14, 15));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    exchange(i, i + 4, __builtin_shufflevector(x[i], x[i + 4], 0, 1, 2, 3, 8, 9, 10, 11),
             __builtin_shufflevector(x[i], x[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
  }
#elif defined(__AVX__)
#pragma GCC unroll 2
  for (int i = 0; i < 4; i += 2) {
    exchange(i, i + 1, __builtin_shufflevector(x[i], x[i + 1], 0, 4, 2, 6),
             __builtin_shufflevector(x[i], x[i + 1], 1, 5, 3, 7));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    exchange(i, i + 2, __builtin_shufflevector(x[i], x[i + 2], 0, 1, 4, 5),
             __builtin_shufflevector(x[i], x[i + 2], 2, 3, 6, 7));
  }
#else
  exchange(0, 1, __builtin_shufflevector(x[0], x[1], 0, 2), __builtin_shufflevector(x[0], x[1], 1, 3));
#endif
}

// Packs `cols` columns of the wide operand, which lie along its contiguous direction, to panel (depth, kTileCols).
// Lanes beyond `cols` are filled with whatever is at hand; nobody reads their sums. The next panels are asked for: the
// rows are too far apart for the processor to see where this is going.
KLQP_INLINE void pack_rows(Index depth, const double* wide, Index step, Index cols, double* panel) {
  const Index whole = cols / kWidth;
  for (Index t = 0; t < depth; ++t, wide += step, panel += kTileCols) {
    if (cols == kTileCols) {
      __builtin_prefetch(wide + kAhead);
      if (kTileCols > 8) __builtin_prefetch(wide + kAhead + 8);
      if (kTileCols > 16) __builtin_prefetch(wide + kAhead + 16);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) store(panel + v * kWidth, load(wide + v * kWidth));
    } else {
      for (Index v = 0; v < whole; ++v) store(panel + v * kWidth, load(wide + v * kWidth));
      for (Index j = whole * kWidth; j < cols; ++j) panel[j] = wide[j];
    }
  }
}

// The same where the terms are contiguous and the columns `step` apart.
KLQP_INLINE void pack_columns(Index depth, const double* wide, Index step, Index cols, double* panel) {
  for (int v = 0; v * kWidth < cols; ++v, panel += kWidth) {
    const double* column[kWidth];
#pragma GCC unroll 8
    for (int l = 0; l < kWidth; ++l) {
      const Index j = v * kWidth + l;
      column[l] = wide + (j < cols ? j : cols - 1) * step;
    }
    Index t = 0;
    for (; t + kWidth <= depth; t += kWidth) {
      Vector square[kWidth];
#pragma GCC unroll 8
      for (int l = 0; l < kWidth; ++l) square[l] = load(column[l] + t);
      transpose(square);
#pragma GCC unroll 8
      for (int l = 0; l < kWidth; ++l) store(panel + (t + l) * kTileCols, square[l]);
    }
    for (; t < depth; ++t) {
#pragma GCC unroll 8
      for (int l = 0; l < kWidth; ++l) panel[t * kTileCols + l] = column[l][t];
    }
  }
}

// One row of sums with the terms of each column contiguous: transposes in registers, without a panel.
template <bool Subtract>
KLQP_INLINE void row_of_columns(Index depth, View a, const double* wide, Index step, double* c, Index c_col) {
  constexpr int vectors = kRowCols / kWidth;
  Vector sums[vectors] = {};
  Index t = 0;
  for (; t + kWidth <= depth; t += kWidth) {
    const double* column = wide + t;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Vector square[kWidth];
#pragma GCC unroll 8
      for (int l = 0; l < kWidth; ++l, column += step) square[l] = load(column);
      transpose(square);
#pragma GCC unroll 8
      for (int l = 0; l < kWidth; ++l) sums[v] = madd(a.data[(t + l) * a.col] - Vector{}, square[l], sums[v]);
    }
  }
  for (int v = 0; v < vectors; ++v) {
    double lanes[kWidth];
    store(lanes, sums[v]);
    for (int l = 0; l < kWidth; ++l) {
      const Index j = v * kWidth + l;
      for (Index u = t; u < depth; ++u) lanes[l] = madd(a.data[u * a.col], wide[j * step + u], lanes[l]);
      if (Subtract) {
        c[j * c_col] -= lanes[l];
      } else {
        c[j * c_col] += lanes[l];
      }
    }
  }
}

// One block of terms of a panel of C (m, cols) += or -= A (m, depth) W (depth, cols), see product.
template <bool Columns, bool Subtract>
KLQP_INLINE void panel_product(Index m, Index cols, Index depth, View a, const double* wide, Index step, double* c,
                               Index c_row, Index c_col) {
  alignas(64) double panel[kDepth * kTileCols];
  if (Columns) {
    pack_columns(depth, wide, step, cols, panel);
  } else if (cols == kTileCols && (m <= kTileRows || depth <= kShallow)) {  // used once, or few rows that stay at hand
    return tiles<Subtract>(m, depth, a, wide, step, c, c_row, c_col, cols);
  } else {
    pack_rows(depth, wide, step, cols, panel);
  }
  tiles<Subtract>(m, depth, a, panel, kTileCols, c, c_row, c_col, cols);
}

// C (m, n) += or -= A (m, k) W (k, n), where W is the wide operand: its element (t, j) is wide[t * step + j], or with
// Columns wide[j * step + t].
template <bool Columns, bool Subtract>
void product(Index m, Index n, Index k, View a, const double* wide, Index step, double* c, Index c_row, Index c_col) {
  for (Index i = 0; i < m; i += kRowBlock) {
    const Index rows = m - i < kRowBlock ? m - i : kRowBlock;
    const auto part = [&](Index t) { return View{a.data + i * a.row + t * a.col, a.row, a.col}; };
    const auto wide_part = [&](Index t, Index j) { return wide + (Columns ? j * step + t : t * step + j); };
    const auto out = [&](Index j) { return c + i * c_row + j * c_col; };
    const auto panels = [&](Index t, Index j, Index end) {
      const Index depth = k - t < kDepth ? k - t : kDepth;
      if (rows == 1) {
        if constexpr (Columns) {
          for (; j + kRowCols <= end; j += kRowCols) {
            row_of_columns<Subtract>(depth, part(t), wide_part(t, j), step, out(j), c_col);
          }
        } else {
          constexpr int vectors = 4 * kTileVectors;
          for (; j + vectors * kWidth <= end; j += vectors * kWidth) {
            tile<1, vectors, Subtract>(depth, part(t), wide_part(t, j), step, out(j), c_row, c_col, vectors * kWidth);
          }
        }
      }
      for (; j < end; j += kTileCols) {
        const Index cols = end - j < kTileCols ? end - j : kTileCols;
        panel_product<Columns, Subtract>(rows, cols, depth, part(t), wide_part(t, j), step, out(j), c_row, c_col);
      }
    };
    // Along the rows of W in memory where the other operand may be read again for each panel, else along k last.
    const bool along = Columns && (rows <= kTileRows || rows * k <= kCached);
    const Index stride = along ? kPanels : n;
    for (Index j = 0; j < n; j += stride) {
      for (Index t = 0; t < k; t += kDepth) panels(t, j, n - j < stride ? n : j + stride);
    }
  }
}

// Whether to exchange the operands, C^T = B^T A^T: when B's columns would not fill a register.
KLQP_INLINE bool exchanged(Index m, Index n) { return n < kWidth && m > n; }

template <bool Subtract>
KLQP_INLINE void nt(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc) {
  if (exchanged(m, n)) return product<true, Subtract>(n, m, k, {b, ldb, 1}, a, lda, c, 1, ldc);
  product<true, Subtract>(m, n, k, {a, lda, 1}, b, ldb, c, ldc, 1);
}

template <bool Subtract>
KLQP_INLINE void nn(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc) {
  if (exchanged(m, n)) return product<true, Subtract>(n, m, k, {b, 1, ldb}, a, lda, c, 1, ldc);
  product<false, Subtract>(m, n, k, {a, lda, 1}, b, ldb, c, ldc, 1);
}

template <bool Subtract>
KLQP_INLINE void tn(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
                    Index ldc) {
  if (exchanged(m, n)) return product<false, Subtract>(n, m, k, {b, 1, ldb}, a, lda, c, 1, ldc);
  product<false, Subtract>(m, n, k, {a, 1, lda}, b, ldb, c, ldc, 1);
}

void matmul_nt(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
               Index ldc) {
  nt<false>(m, n, k, a, lda, b, ldb, c, ldc);
}

void matmul_nn(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
               Index ldc) {
  nn<false>(m, n, k, a, lda, b, ldb, c, ldc);
}

void matmul_tn(Index m, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
               Index ldc) {
  tn<false>(m, n, k, a, lda, b, ldb, c, ldc);
}

}  // namespace
}  // namespace klqp
