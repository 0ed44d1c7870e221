// Limited-memory BFGS: an inverse Hessian from the last pairs of steps and gradient differences. maths.md 11.1
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "core/view.hpp"

namespace klqp {

class InverseHessian {
 public:
  using Product = std::function<void(ConstSpan v, Span out)>;

  // Keeps the last `size` pairs. `first`, if any, multiplies with the inverse Hessian that the pairs correct; without
  // it that is the identity, scaled by the last pair. The first vector that comes says how long vectors are.
  InverseHessian(Index size, Product first) : first_(std::move(first)), pairs_(static_cast<std::size_t>(size)) {}

  Index n_pairs() const noexcept { return n_pairs_; }
  bool has_first() const noexcept { return static_cast<bool>(first_); }
  void clear() noexcept { n_pairs_ = 0; }

  // Takes a step s and the gradient's difference y; false, and nothing taken, without positive curvature.
  bool add(ConstSpan s, ConstSpan y) {
    const double sy = dot(s, y), yy = dot(y, y);
    if (!(sy > kCurvature * yy)) return false;
    q_.resize(s.size());
    Pair& pair = pairs_[next_];
    pair.s.assign(s.begin(), s.end());
    pair.y.assign(y.begin(), y.end());
    pair.sy = sy;
    pair.yy = yy;
    next_ = (next_ + 1) % pairs_.size();
    n_pairs_ = std::min<Index>(n_pairs_ + 1, static_cast<Index>(pairs_.size()));
    return true;
  }

  // out = H v, by the two-loop recursion. May throw what `first` throws.
  void times(ConstSpan v, Span out) {
    const auto n = static_cast<Index>(v.size());
    q_.assign(v.begin(), v.end());
    for (Index k = 0; k < n_pairs_; ++k) {
      Pair& pair = last(k);
      pair.alpha = dot(pair.s, q_) / pair.sy;
      kernels().axpy(n, -pair.alpha, pair.y.data(), q_.data());
    }
    if (first_) {
      first_(q_, out);
    } else {
      kernels().scale(n, n_pairs_ > 0 ? last(0).sy / last(0).yy : 1.0, q_.data(), out.data());
    }
    for (Index k = n_pairs_ - 1; k >= 0; --k) {
      const Pair& pair = last(k);
      const double beta = kernels().dot(n, pair.y.data(), out.data()) / pair.sy;
      kernels().axpy(n, pair.alpha - beta, pair.s.data(), out.data());
    }
  }

 private:
  static constexpr double kCurvature = 1e-12;  // pairs with y^T s <= this |y|^2 are skipped

  struct Pair {
    std::vector<double> s, y;
    double sy = 0.0, yy = 0.0, alpha = 0.0;
  };

  static double dot(ConstSpan a, ConstSpan b) noexcept {
    return kernels().dot(static_cast<Index>(a.size()), a.data(), b.data());
  }
  // The pair before the last k.
  Pair& last(Index k) noexcept {
    return pairs_[(next_ + pairs_.size() - 1 - static_cast<std::size_t>(k)) % pairs_.size()];
  }

  Product first_;
  std::vector<double> q_;
  std::vector<Pair> pairs_;
  std::size_t next_ = 0;
  Index n_pairs_ = 0;
};

}  // namespace klqp
