// Ordered logistic: value k (1) in 0, ..., K - 1, cutpoints c (K - 1) increasing, location m (1).
//   P(value <= k) = sigmoid(c_k - m)
#pragma once

#include "model/nodes/events/law.hpp"

namespace klqp {

class OrderedLogisticLaw final : public Law {
 public:
  explicit OrderedLogisticLaw(Index n_cutpoints) : n_(n_cutpoints) {
    check_at_least("the number of cutpoints", n_cutpoints, 1);
    widths = {1, n_cutpoints, 1};
    no_gradient = 1u;
    work = 40;
  }

  void prepare(const double* const*, bool, double*, double*) const noexcept override {}

  // With a = c_k - m and b = c_(k-1) - m: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)).
  double log_prob(const double* const* args, const double*, double*, double*) const noexcept override {
    const double value = *args[0], m = *args[2];
    if (std::isnan(value) || !std::isfinite(m)) return kNaN;
    if (!(value >= 0.0 && value <= static_cast<double>(n_) && value == std::floor(value))) return kMinusInfinity;
    const Index k = static_cast<Index>(value);
    double terms[2] = {k < n_ ? m - args[1][k] : kMinusInfinity, k > 0 ? args[1][k - 1] - m : kMinusInfinity};
    kernels().softplus(2, terms, terms);
    double sum = -terms[0] - terms[1];
    if (k > 0 && k < n_) {
      const double gap = args[1][k] - args[1][k - 1];
      if (!(gap > 0.0)) return kNaN;
      sum += gap > 0.7 ? std::log1p(-std::exp(-gap)) : std::log(-std::expm1(-gap));
    }
    return sum;
  }

  void add_gradient(const double* const* args, const double*, const double*, double cot, double* const* grads,
                    double*) const noexcept override {
    const Index k = static_cast<Index>(*args[0]);
    const double* const c = args[1];
    const double m = *args[2];
    double terms[2] = {k < n_ ? m - c[k] : kMinusInfinity, k > 0 ? c[k - 1] - m : kMinusInfinity};
    kernels().sigmoid(2, terms, terms);
    const double steep = k > 0 && k < n_ ? 1.0 / std::expm1(c[k] - c[k - 1]) : 0.0;
    if (grads[1] != nullptr) {
      if (k < n_) grads[1][k] += cot * (terms[0] + steep);
      if (k > 0) grads[1][k - 1] -= cot * (terms[1] + steep);
    }
    if (grads[2] != nullptr) *grads[2] += cot * (terms[1] - terms[0]);
  }

 private:
  Index n_;
};

}  // namespace klqp
