// Tiles: pieces of an array short enough for scratch on the stack, so that kernels see long loops and bijectors need
// no memory of their own.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/view.hpp"

namespace klqp {

inline constexpr Index kTile = 256;

// body(begin, n) over [0, size), first tile first
template <class Body>
void for_tiles(Index size, const Body& body) noexcept {
  for (Index begin = 0; begin < size; begin += kTile) body(begin, std::min(kTile, size - begin));
}

// body(begin, n) over [0, size), last tile first
template <class Body>
void for_tiles_backwards(Index size, const Body& body) noexcept {
  for (Index end = size; end > 0;) {
    const Index n = std::min(kTile, end);
    end -= n;
    body(end, n);
  }
}

// A cotangent times a slope that may be infinite: what does not count stays out.
inline double pulled(double cot, double slope) noexcept { return cot == 0.0 ? 0.0 : cot * slope; }

// decay (n) = exp(-|x|), which neither overflows nor loses digits
inline void fill_decay(Index n, const double* x, double* decay) noexcept {
  for (Index i = 0; i < n; ++i) decay[i] = -std::abs(x[i]);
  kernels().exp(n, decay, decay);
}

// sigmoid(x) and sigmoid(-x) from exp(-|x|), both to their last digits
struct Logistic {
  Logistic(double x, double decay) noexcept {
    const double large = 1.0 / (1.0 + decay), small = decay * large;
    plus = x < 0.0 ? small : large;
    minus = x < 0.0 ? large : small;
  }
  double plus, minus;
};

}  // namespace klqp
