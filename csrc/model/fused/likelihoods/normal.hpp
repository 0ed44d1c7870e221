// The normal likelihood with a scale.
#pragma once

#include "model/fused/likelihoods/checked.hpp"

namespace klqp {

class NormalRows final : public CheckedLikelihood {
 public:
  explicit NormalRows(GlmData data) : CheckedLikelihood("normal", 1, std::move(data)) {}

  Index n_sums() const noexcept override { return 1; }  // of squares

  void add(Index draw, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    const double inverse = 1.0 / parameter(0, draw);
    *sums += kernels().rows.normal(n, y(first), weights(first), inverse * inverse, eta);
  }

  double finish(Index draw, const double* sums, double* const* grads) const noexcept override {
    const double scale = parameter(0, draw);
    if (!is_positive(scale)) return kNaN;
    const double square = *sums / scale / scale;
    if (grads[0] != nullptr) *grads[0] = (square - total_weight()) / scale;
    constexpr double kHalfLog2Pi = 0.9189385332046727;
    return base() - 0.5 * square - total_weight() * (std::log(scale) + kHalfLog2Pi);
  }

 private:
  bool supports(Index row) const override { return std::isfinite(y_of(row)); }
};

}  // namespace klqp
