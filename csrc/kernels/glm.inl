// The products of generalised linear models: a block of rows X (n, d) times the coefficients of m draws, and residuals
// times the block. Numbers of the rows are T, double or float; eta, residuals and gradients are doubles.
#pragma once

#include "kernels/matmul.inl"

namespace klqp {
namespace {

// --- vectors of T ---------------------------------------------------------------------------------------

typedef float FloatVector __attribute__((vector_size(8 * kWidth)));
typedef float UnalignedFloatVector __attribute__((vector_size(8 * kWidth), aligned(4), may_alias));
typedef float HalfVector __attribute__((vector_size(4 * kWidth)));

KLQP_INLINE FloatVector load_floats(const float* x) { return *reinterpret_cast<const UnalignedFloatVector*>(x); }
KLQP_INLINE void store_floats(float* x, FloatVector v) { *reinterpret_cast<UnalignedFloatVector*>(x) = v; }

KLQP_INLINE FloatVector madd(FloatVector a, FloatVector b, FloatVector c) {
#if !defined(__FMA__) && !defined(__aarch64__)
  return a * b + c;
#elif defined(__has_builtin) && __has_builtin(__builtin_elementwise_fma)
  return __builtin_elementwise_fma(a, b, c);
#elif defined(__AVX512F__) && __has_builtin(__builtin_ia32_vfmaddps512_mask)
  return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4);
#elif defined(__FMA__) && !defined(__AVX512F__) && __has_builtin(__builtin_ia32_vfmaddps256)
  return __builtin_ia32_vfmaddps256(a, b, c);
#else
  FloatVector out;
  for (int l = 0; l < 2 * kWidth; ++l) out[l] = __builtin_fmaf(a[l], b[l], c[l]);
  return out;
#endif
}

template <class T>
struct Registers;
template <>
struct Registers<double> {
  using V = Vector;
  static constexpr int width = kWidth;
  KLQP_INLINE static V load(const double* x) { return klqp::load(x); }
  KLQP_INLINE static void store(double* x, V v) { klqp::store(x, v); }
  // The sums of kWidth draws from `first` on.
  KLQP_INLINE static Vector part(Vector v, int) { return v; }
};
template <>
struct Registers<float> {
  using V = FloatVector;
  static constexpr int width = 2 * kWidth;
  KLQP_INLINE static V load(const float* x) { return load_floats(x); }
  KLQP_INLINE static void store(float* x, V v) { store_floats(x, v); }
  KLQP_INLINE static Vector part(FloatVector v, int half) {
    float lanes[2 * kWidth];
    store(lanes, v);
    HalfVector values;
    __builtin_memcpy(&values, lanes + half * kWidth, sizeof(values));
    return __builtin_convertvector(values, Vector);
  }
};

// --- the linear predictor -------------------------------------------------------------------------------
//
// Lanes are draws: a panel holds the coefficients of up to kPanelVectors vectors of draws, (d, vectors * width), and
// panels follow each other. For a single draw lanes are columns of X, and its panel is the coefficients alone.

constexpr int kPanelVectors = 3;

constexpr Index up_to(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

// Vectors of the next panel when there are `left`: 3, or 2 where that leaves no single one behind.
KLQP_INLINE Index panel_vectors(Index left) { return left <= kPanelVectors ? left : (left == 4 ? 2 : kPanelVectors); }

template <class T>
Index glm_panel_size(Index m, Index d) {
  constexpr Index width = Registers<T>::width;
  return m == 1 ? up_to(d, width) + width : up_to(m, width) * d;
}

// coef (m, d) -> panels
template <class T>
void glm_pack(Index m, Index d, const double* coef, T* panel) {
  constexpr Index width = Registers<T>::width;
  if (m == 1) {
    // The last vector begins at d - width, or at 0; what it shares with the one before is 0.
    const Index whole = d / width * width;
    for (Index j = 0; j < whole; ++j) panel[j] = static_cast<T>(coef[j]);
    for (Index l = 0; l < width; ++l) {
      const Index j = d - width + l;
      panel[whole + l] = j >= whole ? static_cast<T>(coef[j]) : T(0);
    }
    return;
  }
  const Index vectors = (m + width - 1) / width;
  for (Index v = 0; v < vectors;) {
    const Index lanes = panel_vectors(vectors - v) * width;
    for (Index l = 0; l < lanes; ++l) {
      const Index r = v * width + l;
      for (Index j = 0; j < d; ++j) panel[j * lanes + l] = r < m ? static_cast<T>(coef[r * d + j]) : T(0);
    }
    panel += lanes * d;
    v += lanes / width;
  }
}

// eta (lanes, Rows) += of Rows rows, the first `draws` of the panel's lanes.
template <class T, int Rows, int Vectors>
KLQP_INLINE void predict_tile(Index d, const T* x, Index ldx, const T* panel, Index draws, double* eta, Index ld) {
  using V = typename Registers<T>::V;
  constexpr int width = Registers<T>::width;
  V sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[i][v] = V{};
  }
  for (Index j = 0; j < d; ++j, panel += Vectors * width) {
    V b[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) b[v] = Registers<T>::load(panel + v * width);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const V a = x[i * ldx + j] - V{};
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[i][v] = madd(a, b[v], sums[i][v]);
    }
  }
  if constexpr (Rows % kWidth == 0) {
#pragma GCC unroll 4
    for (int i = 0; i < Rows; i += kWidth) {
#pragma GCC unroll 8
      for (int q = 0; q < Vectors * width / kWidth; ++q) {
        Vector square[kWidth];
#pragma GCC unroll 8
        for (int l = 0; l < kWidth; ++l) {
          square[l] = Registers<T>::part(sums[i + l][q * kWidth / width], q % (width / kWidth));
        }
        transpose(square);
#pragma GCC unroll 8
        for (int l = 0; l < kWidth; ++l) {
          if (q * kWidth + l < draws) {
            double* const to = eta + (q * kWidth + l) * ld + i;
            store(to, load(to) + square[l]);
          }
        }
      }
    }
  } else {
    for (int i = 0; i < Rows; ++i) {
      T lanes[Vectors * width];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) Registers<T>::store(lanes + v * width, sums[i][v]);
      for (Index r = 0; r < draws; ++r) eta[r * ld + i] += static_cast<double>(lanes[r]);
    }
  }
}

constexpr int kPredictRows = kWidth < 4 ? 4 : kWidth;

template <class T, int Vectors>
void predict_panel(Index n, Index d, const T* x, Index ldx, const T* panel, Index draws, double* eta, Index ld) {
  constexpr int rows = Vectors == 1 && kWidth < 8 ? 2 * kPredictRows : kPredictRows;
  Index i = 0;
  for (; i + rows <= n; i += rows) predict_tile<T, rows, Vectors>(d, x + i * ldx, ldx, panel, draws, eta + i, ld);
  for (; i < n; ++i) predict_tile<T, 1, Vectors>(d, x + i * ldx, ldx, panel, draws, eta + i, ld);
}

// The sum of the lanes, pairwise.
KLQP_INLINE double total(Vector v) {
  double lanes[kWidth];
  store(lanes, v);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}
KLQP_INLINE double total(FloatVector v) { return total(Registers<float>::part(v, 0) + Registers<float>::part(v, 1)); }

// eta (Rows) += of one draw.
template <class T, int Rows>
KLQP_INLINE void predict_dots(Index d, const T* x, Index ldx, const T* panel, double* eta) {
  using V = typename Registers<T>::V;
  constexpr Index width = Registers<T>::width;
  V sums[Rows];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) sums[i] = V{};
  const auto add = [&](Index j, Index at) __attribute__((always_inline)) {
    const V b = Registers<T>::load(panel + at);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) sums[i] = madd(Registers<T>::load(x + i * ldx + j), b, sums[i]);
  };
  const Index whole = d / width * width;
  for (Index j = 0; j < whole; j += width) add(j, j);
  if (whole < d) add(d - width, whole);
  if constexpr (Rows == kWidth && sizeof(T) == sizeof(double)) {
    Vector square[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) square[i] = Registers<T>::part(sums[i], 0);
    transpose(square);
    Vector sum = square[0];
#pragma GCC unroll 8
    for (int l = 1; l < kWidth; ++l) sum += square[l];
    store(eta, load(eta) + sum);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) eta[i] += total(sums[i]);
  }
}

// eta (m, n), rows ld apart, += coefficients (m, d) X^T, X (n, d) with rows ldx apart.
template <class T>
void glm_predict(Index n, Index d, Index m, const T* x, Index ldx, const T* panel, double* eta, Index ld) {
  constexpr Index width = Registers<T>::width;
  if (m == 1) {
    if (d < width) {
      const T* const beta = panel + width - d;
      for (Index i = 0; i < n; ++i) {
        T sum = 0;
        for (Index j = 0; j < d; ++j) sum += x[i * ldx + j] * beta[j];
        eta[i] += static_cast<double>(sum);
      }
      return;
    }
    Index i = 0;
    for (; i + kWidth <= n; i += kWidth) predict_dots<T, kWidth>(d, x + i * ldx, ldx, panel, eta + i);
    for (; i < n; ++i) predict_dots<T, 1>(d, x + i * ldx, ldx, panel, eta + i);
    return;
  }
  const Index vectors = (m + width - 1) / width;
  for (Index v = 0; v < vectors;) {
    const Index count = panel_vectors(vectors - v), left = m - v * width;
    const Index draws = left < count * width ? left : count * width;
    double* const to = eta + v * width * ld;
    if (count == 3) {
      predict_panel<T, 3>(n, d, x, ldx, panel, draws, to, ld);
    } else if (count == 2) {
      predict_panel<T, 2>(n, d, x, ldx, panel, draws, to, ld);
    } else {
      predict_panel<T, 1>(n, d, x, ldx, panel, draws, to, ld);
    }
    panel += count * width * d;
    v += count;
  }
}

// --- gradients ------------------------------------------------------------------------------------------

// Where the rows after this block begin, to be asked for while this one is worked on: half a cache line for each row of
// a tile, so that memory keeps up.
struct Ahead {
  const char* at;
  Index left;  // bytes

  static constexpr Index step = 32;

  // The address for n rows; where nothing is left it stays what is cached.
  KLQP_INLINE const char* take(Index n) {
    const char* const from = at;
    const Index taken = n * step < left ? n * step : left;
    at += taken;
    left -= taken;
    return from;
  }
};

// grad (Rows, columns) += residual (Rows, n) X (n, columns), where the last of the Vectors begins at `last` and adds
// only its lanes from `skip` on.
template <class T, int Rows, int Vectors>
KLQP_INLINE void gradient_tile(Index n, const T* residual, Index ldr, const T* x, Index ldx, Index last, Index skip,
                               double* grad, Index ldg, Ahead& ahead) {
  const Index step = ahead.left > 0 ? Ahead::step : 0;
  const char* next = ahead.take(n);
  using V = typename Registers<T>::V;
  constexpr int width = Registers<T>::width;
  V sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) sums[r][v] = V{};
  }
  for (Index i = 0; i < n; ++i, x += ldx, next += step) {
    __builtin_prefetch(next);
    V b[Vectors];
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) b[v] = Registers<T>::load(x + (v + 1 < Vectors ? v * width : last));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const V a = residual[r * ldr + i] - V{};
#pragma GCC unroll 12
      for (int v = 0; v < Vectors; ++v) sums[r][v] = madd(a, b[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 12
    for (int v = 0; v < Vectors; ++v) {
      double* const to = grad + r * ldg + (v + 1 < Vectors ? v * width : last);
      T lanes[width];
      Registers<T>::store(lanes, sums[r][v]);
      for (Index l = v + 1 < Vectors ? 0 : skip; l < width; ++l) to[l] += static_cast<double>(lanes[l]);
    }
  }
}

// Rows draws and all columns, in tiles of up to Most vectors.
template <class T, int Rows, int Most>
void gradient_rows(Index n, Index d, const T* residual, Index ldr, const T* x, Index ldx, double* grad, Index ldg,
                   Ahead& ahead) {
  constexpr Index width = Registers<T>::width;
  const Index vectors = (d + width - 1) / width;
  Index v = 0;
  const auto tile = [&]<int Vectors>() __attribute__((always_inline)) {
    const Index col = v * width, end = col + Vectors * width;
    const Index over = end > d ? end - d : 0;
    gradient_tile<T, Rows, Vectors>(n, residual, ldr, x + col, ldx, (Vectors - 1) * width - over, over, grad + col, ldg,
                                    ahead);
    v += Vectors;
  };
  // Tiles of Most, the last ones evenly.
  while (vectors - v >= Most + (Most > 2 ? 2 : 1) || vectors - v == Most) tile.template operator()<Most>();
  const auto rest = [&]<int Vectors>(const auto& self) {
    if constexpr (Vectors > 0) {
      while (vectors - v >= Vectors && (vectors - v == Vectors || vectors - v > Most))
        tile.template operator()<Vectors>();
      self.template operator()<Vectors - 1>(self);
    }
  };
  rest.template operator()<(Most > 1 ? Most - 1 : 1)>(rest);
}

// Rows narrower than a vector.
template <class T>
void gradient_narrow(Index n, Index d, Index m, const T* residual, Index ldr, const T* x, Index ldx, double* grad,
                     Index ldg) {
  for (Index r = 0; r < m; ++r) {
    T sums[Registers<T>::width] = {};
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < d; ++j) sums[j] += residual[r * ldr + i] * x[i * ldx + j];
    }
    for (Index j = 0; j < d; ++j) grad[r * ldg + j] += static_cast<double>(sums[j]);
  }
}

// grad (m, d), rows ldg apart, += residual (m, n), rows ldr apart, times X (n, d), rows ldx apart. There are n_next
// rows after these.
template <class T>
void glm_gradient(Index n, Index d, Index m, const T* residual, Index ldr, const T* x, Index ldx, Index n_next,
                  double* grad, Index ldg) {
  if (d < Registers<T>::width) return gradient_narrow(n, d, m, residual, ldr, x, ldx, grad, ldg);
  Ahead ahead{reinterpret_cast<const char*>(x + n * ldx), n_next * ldx * static_cast<Index>(sizeof(T))};
  const auto rows = [&](Index count, const auto& body) {
    body();
    residual += count * ldr;
    grad += count * ldg;
    m -= count;
  };
  constexpr int most = kWidth < 4 ? 2 : 3;
  while (m >= 4) {
    rows(4, [&] { gradient_rows<T, 4, most>(n, d, residual, ldr, x, ldx, grad, ldg, ahead); });
  }
  if (m == 3) return gradient_rows<T, 3, most>(n, d, residual, ldr, x, ldx, grad, ldg, ahead);
  if (m == 2) return gradient_rows<T, 2, 2 * most>(n, d, residual, ldr, x, ldx, grad, ldg, ahead);
  if (m == 1) return gradient_rows<T, 1, 4 * most>(n, d, residual, ldr, x, ldx, grad, ldg, ahead);
}

}  // namespace
}  // namespace klqp
