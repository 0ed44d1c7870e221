// Student's t likelihood with degrees of freedom and a scale.
#pragma once

#include "model/fused/likelihoods/checked.hpp"

namespace klqp {

// With t = (y - eta) / (scale sqrt(df)): log p = c(df) - log(scale) - (df + 1) / 2 log(1 + t^2). The derivatives by
// both parameters follow from the sums of log(1 + t^2) and of t^2 / (1 + t^2).
class StudentTRows final : public CheckedLikelihood {
 public:
  explicit StudentTRows(GlmData data) : CheckedLikelihood("student_t", 2, std::move(data)) {}

  Index n_sums() const noexcept override { return 2; }

  void add(Index draw, Index first, Index n, double* eta, Index, bool, double* sums) const noexcept override {
    const double df = parameter(0, draw), inverse = 1.0 / (parameter(1, draw) * std::sqrt(df));
    kernels().rows.student_t(n, y(first), weights(first), inverse, (df + 1.0) * inverse, eta, sums);
  }

  double finish(Index draw, const double* sums, double* const* grads) const noexcept override {
    const double df = parameter(0, draw), scale = parameter(1, draw);
    if (!is_positive(df) || !is_positive(scale)) return kNaN;
    // c(df) and its derivative: the density at its mode.
    const double zero = 0.0, one = 1.0;
    const double* const args[] = {&zero, &df, &zero, &one};
    double at_mode = 0.0, by_df = 0.0;
    double* const slopes[] = {nullptr, &by_df, nullptr, nullptr};
    student_t_.log_prob(1, args, 0, &at_mode);
    student_t_.gradient(1, args, 0, slopes);
    if (grads[0] != nullptr) *grads[0] = total_weight() * by_df + 0.5 * ((1.0 / df + 1.0) * sums[1] - sums[0]);
    if (grads[1] != nullptr) *grads[1] = ((df + 1.0) * sums[1] - total_weight()) / scale;
    return base() + total_weight() * (at_mode - std::log(scale)) - 0.5 * (df + 1.0) * sums[0];
  }

 private:
  bool supports(Index row) const override { return std::isfinite(y_of(row)); }

  const DensityKernel& student_t_ = *find_density(kernels(), "student_t");
};

}  // namespace klqp
